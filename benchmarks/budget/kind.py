"""What a MODEL argument is taken for, by its spelling alone. Knows no torch."""

from typing import Literal

from arch.bases import BASES
from arch.spec import WORD

Kind = Literal["spec", "timm", "file"]


def kind_of(text: str) -> Kind:
    """A `.py` file, one of our specs (its first word is one of our bases), or else a timm name."""
    if split_file(text)[0].endswith(".py"):
        return "file"
    word = WORD.match(text)
    return "spec" if word is not None and word.group() in {*BASES, "baseline"} else "timm"


def split_file(text: str) -> tuple[str, str]:
    """`file.py:name` as (file.py, name); the name is empty where there is none."""
    file, colon, name = text.rpartition(":")
    return (file, name) if colon and file.endswith(".py") else (text, "")
