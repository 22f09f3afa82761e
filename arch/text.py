"""Make text from people and other programs safe and short enough to display."""

import re
import unicodedata
from itertools import groupby

MAX_NAME_CHARACTERS = 44
TRAILING_PARENTHESES = re.compile(r" \([^()]*\)$")
ARROW = " → "  # between the names of a chain
MIN_LINK_CHARACTERS = 5  # a chain whose links would be shorter is shortened as a whole


def printable(text: str) -> str:
    """Return `text` with a question mark for each control character and lone surrogate."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """Return a count and its noun, such as "1 run" or "1,200 runs". `nouns` is the plural if it is not noun + "s"."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def shorten(text: str, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """Return a printable version of a name with at most `max_characters` characters.

    The middle of a long name is replaced by an ellipsis, and at most two combining marks are kept per letter. In a
    chain of names, such as "teacher → student", the longest names are shortened, so that its links can be told apart.
    Words in parentheses at the end, such as the method in "teacher → student (dkd)", are kept if they are short.
    """
    runs = groupby(printable(text), lambda letter: bool(unicodedata.combining(letter)))
    kept = "".join("".join(letters)[:2] if combining else "".join(letters) for combining, letters in runs)
    if len(kept) <= max_characters:
        return kept
    if (words := TRAILING_PARENTHESES.search(kept)) and 3 * len(words[0]) <= 2 * max_characters:
        return _shorten_chain(kept[: words.start()], max_characters - len(words[0])) + words[0]
    return _shorten_chain(kept, max_characters)


def _shorten_chain(chain: str, max_characters: int) -> str:
    names = chain.split(ARROW)
    available = max_characters - len(ARROW) * (len(names) - 1)
    if available < MIN_LINK_CHARACTERS * len(names):
        return _cut_middle(chain, max_characters)
    lengths = sorted(map(len, names))
    while lengths[0] <= available // len(lengths):  # short names leave more for the others
        available -= lengths.pop(0)
    return ARROW.join(_cut_middle(name, available // len(lengths)) for name in names)


def _cut_middle(name: str, max_characters: int) -> str:
    if len(name) <= max_characters:
        return name
    start, end = name[: max_characters // 2], name[-((max_characters - 1) // 2) :]
    return f"{start.rstrip('…')}…{end.lstrip('…')}"  # the name may have been shortened before
