"""What a MODEL argument is taken for, by its spelling alone. Knows no torch."""

from pathlib import Path
from typing import Literal

from arch.bases import BASES
from arch.spec import WORD

Kind = Literal["spec", "timm", "file"]


def kind_of(text: str) -> Kind:
    """A `.py` file, one of our specs (its first word is one of our bases), or else a timm name."""
    if Path(text.partition(":")[0]).suffix == ".py":
        return "file"
    word = WORD.match(text)
    return "spec" if word is not None and word.group() in {*BASES, "baseline"} else "timm"
