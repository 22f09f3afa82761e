"""The exception for invalid user input."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_NAMES_IN_MESSAGE = 60


class InputError(ValueError):
    """The user input is invalid. The message is one line that names the valid inputs."""


def unknown(kind: str, word: str, valid: Iterable[str], place: str = "") -> InputError:
    """Create the error for a name that does not exist.

    Args:
        kind: The kind of the name, such as "part".
        word: The unknown name.
        valid: All valid names.
        place: Where the name was found, starting with a space, such as " at character 5 of 'resnet8+sex'".

    Returns:
        An error that suggests the closest valid name and lists all of them if they are few.
    """
    names = sorted(valid)
    by_lowercase = {name.lower(): name for name in names}
    closest = get_close_matches(word.lower(), by_lowercase, n=1, cutoff=0.5)
    hint = f"did you mean {by_lowercase[closest[0]]!r}? " if closest else ""
    choices = (
        f"valid: {', '.join(names)}" if len(names) <= MAX_NAMES_IN_MESSAGE else f"there are {len(names)} valid names"
    )
    return InputError(f"unknown {kind} {word!r}{place}: {hint}{choices}")
