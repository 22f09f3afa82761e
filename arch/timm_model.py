"""`TimmModel`: a model of timm, or a plugin's network, as plain data that can be a row of an ablation."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TimmModel:
    """A timm model, or a network of a plugin, by name. Equal instances are one architecture and share one row.

    Whether timm has a model of this name is checked when the model is built.

    Raises:
        ValueError: If `input_size` is negative.
    """

    name: str  # as in timm.create_model, without a pretrained tag
    input_size: int = 0  # side length in pixels to which images are resized on the device; 0: no resizing
    plugin: str = ""  # the digest of the plugin that defines the network; "": a model of timm
    settings: tuple[tuple[str, Any], ...] = ()  # what parts pass to a network: see `arch.networks`

    def __post_init__(self) -> None:
        if self.input_size < 0:
            raise ValueError("input_size must be at least 0")

    def key(self) -> str:
        """Return a hash like `Variant.key`. It never equals a variant's key, because variants have no such fields."""
        chosen: dict[str, Any] = {"plugin": self.plugin, "settings": self.settings} if self.plugin else {}
        chosen["network" if self.plugin else "timm"] = self.name
        if self.input_size:
            chosen["input_size"] = self.input_size
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
