"""Make text from people and other programs safe and short enough to display."""

import unicodedata
from itertools import groupby

MAX_NAME_CHARACTERS = 30


def printable(text: str) -> str:
    """Return `text` with a question mark for each control character and lone surrogate."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shorten(text: str, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """Return a printable version of a name with at most `max_characters` characters.

    The middle of a long name is replaced by an ellipsis, and at most two combining marks are kept per letter.
    """
    runs = groupby(printable(text), lambda letter: bool(unicodedata.combining(letter)))
    kept = "".join("".join(letters)[:2] if combining else "".join(letters) for combining, letters in runs)
    if len(kept) <= max_characters:
        return kept
    return f"{kept[: max_characters // 2]}…{kept[-((max_characters - 1) // 2) :]}"
