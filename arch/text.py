"""Text that people and other programs have given, made fit to be shown."""

import unicodedata
from itertools import groupby

MAX_NAME_CHARACTERS = 30


def printable(text: str) -> str:
    """The text with a question mark for each control character and lone surrogate, fit for any terminal or log."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shorten(text: str, longest: int = MAX_NAME_CHARACTERS) -> str:
    """A name that fits: nothing unprintable, two combining signs a letter, and its middle left out if it is long."""
    runs = groupby(printable(text), lambda letter: bool(unicodedata.combining(letter)))
    kept = "".join("".join(letters)[:2] if combining else "".join(letters) for combining, letters in runs)
    return kept if len(kept) <= longest else f"{kept[: longest // 2]}…{kept[-((longest - 1) // 2) :]}"
