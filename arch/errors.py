"""The one exception that bad input raises, and the sentence that names what would have been right."""

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 60  # names that one line can hold


class InputError(ValueError):
    """Something a person gave us cannot be used. The message is one line and names what is valid."""


def unknown(kind: str, word: str, valid: Iterable[str], place: str = "") -> InputError:
    """Returns the error for a word that is none of `valid`, naming the nearest, and all where they are few."""
    names = sorted(valid)
    nearest = get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    choice = f"valid: {', '.join(names)}" if len(names) <= FEW else f"there are {len(names)} valid names"
    return InputError(f"unknown {kind} {word!r}{place}: {hint}{choice}")
