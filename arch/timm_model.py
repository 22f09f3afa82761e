"""`TimmModel`: a timm model as plain data, usable as a row of an ablation."""

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class TimmModel:
    """A timm model by name. Equal instances are one architecture and share one row.

    Whether timm has a model of this name is checked when the model is built.

    Raises:
        ValueError: If `input_size` is negative.
    """

    name: str  # as in timm.create_model, without a pretrained tag
    input_size: int = 0  # side length in pixels to which images are resized on the device; 0: no resizing

    def __post_init__(self) -> None:
        if self.input_size < 0:
            raise ValueError("input_size must be at least 0")

    def key(self) -> str:
        """Return a hash like `Variant.key`. It never equals a variant's key, because variants have no such fields."""
        chosen: dict[str, str | int] = {"timm": self.name}
        if self.input_size:
            chosen["input_size"] = self.input_size
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
