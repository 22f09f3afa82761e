from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.definition.names import check_path, is_identifier


@pytest.mark.parametrize(
    "path",
    ["runs", "../runs", "/tmp/a b/Ergebnisse für β", "x" * 255, "é" * 127, "a.con", "console", "com", "com10", ".", ""],
)
def test_an_ordinary_path_is_given_back(path: str) -> None:
    assert check_path("--out", Path(path)) == Path(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\x00b", r"'a\x00b' has a control character"),
        ("runs/a\x1b[31m/b", r"'a\x1b[31m' has a control character"),
        ("a\nb", r"'a\nb' has a control character"),
        ("a\u202eb", r"'a\u202eb' has a control character"),  # turns what follows it around
        ("x" * 256, "xxx... has 256 bytes, over 255"),
        ("é" * 128, "ééé... has 256 bytes, over 255"),
        ("runs/CON", "'CON' is the name of a device on Windows"),
        ("aux.d/runs", "'aux.d' is the name of a device on Windows"),
        ("lpt1", "'lpt1' is the name of a device on Windows"),
    ],
)
def test_a_name_that_some_system_stumbles_over_is_refused_in_one_clean_line(path: str, words: str) -> None:
    with pytest.raises(InputError) as raised:
        check_path("--out", Path(path))
    message = str(raised.value)
    assert message.startswith("--out: ")
    assert words in message
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("name", ["tiny", "A_1", "_", "7", "x" * 40, "conv"])
def test_letters_digits_and_underscores_are_an_identifier(name: str) -> None:
    assert is_identifier(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 41, "../x", "a/b", "a.b", "a b", "a\n", "\n", "a\x00", "\x1b[31m", "é", "٣", "con", "NUL", "Com1"],
)
def test_anything_else_is_none(name: str) -> None:
    assert not is_identifier(name)
