from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.definition.names import check_path, is_identifier


@pytest.mark.parametrize(
    "path",
    ["runs", "../runs", "/tmp/a b/Ergebnisse für β", "x" * 255, "é" * 127, "a.con", "console", "com", "com10", ".", ""],
)
def test_valid_path_is_returned(path: str) -> None:
    assert check_path("--out", Path(path)) == Path(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\x00b", r"'a\x00b' contains a control character"),
        ("runs/a\x1b[31m/b", r"'a\x1b[31m' contains a control character"),
        ("a\nb", r"'a\nb' contains a control character"),
        ("a\u202eb", r"'a\u202eb' contains a control character"),  # reverses the direction of the following text
        ("x" * 256, "xxx... has 256 bytes; the limit is 255"),
        ("é" * 128, "ééé... has 256 bytes; the limit is 255"),
        ("runs/CON", "'CON' is the name of a device on Windows"),
        ("aux.d/runs", "'aux.d' is the name of a device on Windows"),
        ("lpt1", "'lpt1' is the name of a device on Windows"),
    ],
)
def test_invalid_name_is_explained_in_one_printable_line(path: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        check_path("--out", Path(path))
    message = str(raised.value)
    assert message.startswith("--out: ")
    assert expected in message
    assert message.isprintable()
    assert len(message) < 200


@pytest.mark.parametrize("name", ["tiny", "A_1", "_", "7", "x" * 40, "conv"])
def test_letters_digits_and_underscores_are_an_identifier(name: str) -> None:
    assert is_identifier(name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 41, "../x", "a/b", "a.b", "a b", "a\n", "\n", "a\x00", "\x1b[31m", "é", "٣", "con", "NUL", "Com1"],
)
def test_other_names_are_not_identifiers(name: str) -> None:
    assert not is_identifier(name)
