"""`TimmModel`: a model of timm's as a row of an ablation table, as data that builds nothing. Knows no torch."""

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class TimmModel:
    """A model of timm's by name. Two equal ones are one architecture and share one row.

    Raises ValueError for a size below 0; whether timm knows the name is seen when it is built.
    """

    name: str  # as timm.create_model takes it, without a pretrained tag
    input_size: int = 0  # pixels each side that images are resized to, on the device; 0: as they are

    def __post_init__(self) -> None:
        if self.input_size < 0:
            raise ValueError("input_size must be at least 0")

    def key(self) -> str:
        """A hash as of `Variant.key`, and never equal to one: no variant has these fields."""
        chosen: dict[str, str | int] = {"timm": self.name}
        if self.input_size:
            chosen["input_size"] = self.input_size
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
