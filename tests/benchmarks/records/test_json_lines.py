import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.records.json_lines import JsonLines, seal


@dataclass(frozen=True)
class Note:
    """Record with one field of each type."""

    word: str
    number: int
    share: float
    more: dict[str, float] = field(default_factory=dict)


NOTES = [Note("é\n☃", 7, 0.1 + 0.2, {"a": 1.5}), Note("second", -1, 1e-300), Note('"}', 2**40, -0.0)]
LONG_NOTE = Note("x" * 6000, 1, 1.0)  # longer than a block of the file system


@pytest.fixture
def lines(tmp_path: Path) -> JsonLines[Note]:
    return JsonLines(tmp_path / "notes.jsonl", Note)


@pytest.fixture
def content(lines: JsonLines[Note]) -> bytes:
    """Append three notes, and return the content of the file."""
    for note in NOTES:
        lines.append(note)
    return lines.path.read_bytes()


# reading and appending


@pytest.mark.usefixtures("content")
def test_records_are_read_in_the_order_of_appending(lines: JsonLines[Note]) -> None:
    assert lines.read() == NOTES
    assert lines.damaged == []
    assert JsonLines(lines.path, Note).read() == NOTES


def test_each_line_is_json_with_a_verifiable_hash(content: bytes) -> None:
    for line, note in zip(content.splitlines(), NOTES, strict=True):
        fields = json.loads(line)
        digest = fields.pop("sha256")
        assert fields == asdict(note)
        assert hashlib.sha256(json.dumps(fields).encode()).hexdigest() == digest


def test_missing_and_empty_files_contain_no_records(lines: JsonLines[Note]) -> None:
    assert (lines.read(), lines.repair(), lines.path.exists()) == ([], "", False)
    lines.path.touch()
    assert (lines.read(), lines.repair(), lines.damaged) == ([], "", [])
    lines.append(NOTES[0])
    assert lines.read() == NOTES[:1]


def test_nan_is_rejected_and_nothing_is_written(lines: JsonLines[Note], content: bytes) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        lines.append(Note("a", 1, float("nan")))
    assert lines.path.read_bytes() == content


def test_unreadable_and_unwritable_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "notes.jsonl"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"cannot read {folder}: Is a directory"):
        JsonLines(folder, Note).read()
    with pytest.raises(OSError, match=str(folder)):
        JsonLines(folder, Note).append(NOTES[0])
    in_missing_folder = tmp_path / "missing" / "notes.jsonl"
    with pytest.raises(OSError, match=f"cannot write {in_missing_folder}: No such file"):
        JsonLines(in_missing_folder, Note).append(NOTES[0])


def test_changes_by_an_editor_are_no_damage(lines: JsonLines[Note], content: bytes) -> None:
    lines.path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert lines.read() == NOTES
    assert lines.damaged == []


# damage


def test_flipped_bit_never_yields_a_record_that_was_not_written(lines: JsonLines[Note], content: bytes) -> None:
    newlines = [position for position, byte in enumerate(content) if byte == ord("\n")]
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        lines.path.write_bytes(damaged)
        index = sum(newline < position for newline in newlines)  # index of the line that contains the byte
        lost = {index, index + 1} if position in newlines else {index}
        assert lines.read() == [note for number, note in enumerate(NOTES) if number not in lost], position
        assert index + 1 in lines.damaged


def test_hash_is_valid_for_its_own_line_only(lines: JsonLines[Note], content: bytes) -> None:
    first, second, third = content.splitlines(keepends=True)
    lines.path.write_bytes(third + first + second)
    assert lines.read() == [NOTES[2], NOTES[0], NOTES[1]]
    first_with_second_hash = first[:-67] + second[-67:]
    lines.path.write_bytes(first_with_second_hash + second)
    assert lines.read() == [NOTES[1]]
    assert lines.damaged == [1]


def add_hash(line: bytes) -> bytes:
    return line[:-1] + b', "sha256": "%s"}\n' % hashlib.sha256(line).hexdigest().encode()


@pytest.mark.parametrize(
    "line",
    [
        b'{"word": "a", "number": 1}',
        b'{"word": "a", "number": "1", "share": 1.0}',
        b'{"word": "a", "number": 1, "share": 1.0, "unknown": 1}',
        b'{"word": "a", "number": 1, "share": NaN}',
        b"{}",
    ],
)
def test_valid_hash_does_not_make_other_json_a_record(lines: JsonLines[Note], content: bytes, line: bytes) -> None:
    lines.path.write_bytes(add_hash(line) + content)
    assert lines.read() == NOTES
    assert lines.damaged == [1]


def test_damaged_line_in_the_middle_is_not_removed(lines: JsonLines[Note], content: bytes) -> None:
    damaged = content.replace(b"second", b"sEcond")
    lines.path.write_bytes(damaged)
    assert lines.repair() == ""
    lines.append(NOTES[1])
    assert lines.path.read_bytes().startswith(damaged)
    assert lines.read() == [NOTES[0], NOTES[2], NOTES[1]]
    assert lines.damaged == [2]


# incomplete last lines


def test_file_cut_at_any_length_keeps_its_complete_lines(lines: JsonLines[Note], content: bytes) -> None:
    torn_path = lines.path.with_suffix(".torn")
    for length in range(len(content)):
        torn_path.unlink(missing_ok=True)
        lines.path.write_bytes(content[:length])
        num_complete, torn = content[:length].count(b"\n"), content[:length].rpartition(b"\n")[2]
        lacks_only_newline = content[length : length + 1] == b"\n"
        remaining = NOTES[: num_complete + lacks_only_newline]
        assert lines.read() == remaining
        message = lines.repair()
        assert (str(lines.path) in message) == bool(torn and not lacks_only_newline)
        expected = b"" if lacks_only_newline or not torn else torn + b"\n"
        assert (torn_path.read_bytes() if torn_path.exists() else b"") == expected
        assert lines.repair() == ""
        lines.append(NOTES[1])
        assert lines.read() == [*remaining, NOTES[1]]
        assert lines.damaged == []


def test_append_repairs_an_incomplete_line(lines: JsonLines[Note], content: bytes) -> None:
    for _ in range(2):
        lines.path.write_bytes(lines.path.read_bytes()[:-10])
        lines.append(NOTES[2])
    assert lines.read() == NOTES
    assert lines.path.read_bytes() == content
    assert len(lines.path.with_suffix(".torn").read_bytes().splitlines()) == 2


# full disks


def test_full_disk_changes_nothing_and_free_space_allows_appending(small_disk: Path, fill: Callable[[], Path]) -> None:
    lines = JsonLines(small_disk / "notes.jsonl", Note)
    lines.append(LONG_NOTE)
    before, ballast = lines.path.read_bytes(), fill()
    for _ in range(2):
        with pytest.raises(OSError, match=f"cannot write {lines.path}: No space left on device"):
            lines.append(LONG_NOTE)
        assert lines.path.read_bytes() == before
    assert lines.read() == [LONG_NOTE]
    ballast.unlink()
    lines.append(NOTES[0])
    assert lines.read() == [LONG_NOTE, NOTES[0]]


def test_incomplete_line_on_a_full_disk_is_not_lost(small_disk: Path, fill: Callable[[], Path]) -> None:
    lines = JsonLines(small_disk / "notes.jsonl", Note)
    for _ in range(2):
        lines.append(LONG_NOTE)
    lines.path.write_bytes(lines.path.read_bytes()[:-20])
    torn = lines.path.read_bytes()
    ballast = fill()
    with pytest.raises(OSError, match=r"notes\.jsonl: No space left on device"):  # no space for the .torn file
        lines.repair()
    assert lines.path.read_bytes() == torn
    assert lines.read() == [LONG_NOTE]
    ballast.unlink()
    assert str(lines.path) in lines.repair()
    lines.append(NOTES[0])
    assert lines.read() == [LONG_NOTE, NOTES[0]]


# omitted fields


@dataclass(frozen=True)
class NoteWithLists:
    """Record with lists that a reader may omit."""

    word: str
    curve: list[dict[str, float]]
    rest: list[list[int]] = field(default_factory=list)


NOTES_WITH_LISTS = [
    NoteWithLists('"curve": [1]', [{"a": 1.0}, {"b": 2.0}], [[3], [], [4]]),
    NoteWithLists("x", [], []),
    NoteWithLists('\\", "curve": [', [{"a": 0.5}]),
]


def test_omitted_lists_are_empty_and_other_fields_are_read(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "notes.jsonl", NoteWithLists)
    for note in NOTES_WITH_LISTS:
        lines.append(note)
    assert lines.read() == NOTES_WITH_LISTS
    assert lines.read(omit=["curve"]) == [NoteWithLists(note.word, [], note.rest) for note in NOTES_WITH_LISTS]
    assert lines.read(omit=["curve", "rest"]) == [NoteWithLists(note.word, [], []) for note in NOTES_WITH_LISTS]
    assert lines.read(omit=["rest"]) == [NoteWithLists(note.word, note.curve, []) for note in NOTES_WITH_LISTS]
    lines.path.write_bytes(lines.path.read_bytes().replace(b"2.0", b"3.0"))
    assert [note.word for note in lines.read(omit=["curve"])] == [note.word for note in NOTES_WITH_LISTS[1:]]
    assert lines.damaged == [1]


# formats


@dataclass(frozen=True)
class NoteWithFormat:
    """A record that states its format."""

    format: int = field(default=2, kw_only=True)
    word: str
    curve: list[int] = field(default_factory=list)


@pytest.mark.parametrize("omit", [(), ("curve",)])
def test_records_of_other_formats_are_counted_and_skipped(tmp_path: Path, omit: tuple[str, ...]) -> None:
    lines = JsonLines(tmp_path / "notes.jsonl", NoteWithFormat, record_format=2)
    other_formats: list[dict[str, Any]] = [
        {"word": "old"},
        {"text": "old"},
        {"format": 3, "title": "new"},
        {"format": 1, "word": "old"},
    ]
    lines.path.write_bytes(b"".join(seal(record) + b"\n" for record in other_formats) + b'{"word": "damaged"}\n')
    lines.append(NoteWithFormat("current"))
    for _ in range(2):
        assert lines.read(omit) == [NoteWithFormat("current")]
        assert lines.other_formats == {1: 3, 3: 1}
        assert lines.damaged == [5]


def test_record_of_another_format_without_newline_is_completed(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "notes.jsonl", NoteWithFormat, record_format=2)
    old = seal({"text": "old"})
    lines.path.write_bytes(old)
    lines.append(NoteWithFormat("current"))
    assert lines.path.read_bytes().startswith(old + b"\n")
    assert not lines.path.with_suffix(".torn").exists()
    assert lines.read() == [NoteWithFormat("current")]


# moving lines


def test_moved_lines_are_unchanged_and_all_others_stay(lines: JsonLines[Note], content: bytes, tmp_path: Path) -> None:
    target = JsonLines(tmp_path / "target.jsonl", Note)
    first, second, third = content.splitlines()
    lines.path.write_bytes(b"\n".join([first, b"damaged", second, third, second]))  # without the last newline
    assert lines.move_lines(lambda note: note.word == "second", target) == 1
    assert lines.path.read_bytes().splitlines() == [first, b"damaged", third]
    assert target.path.read_bytes() == second + b"\n"
    assert lines.move_lines(lambda note: note.word == "second", target) == 0
    lines.append(NOTES[1])
    assert lines.read() == [NOTES[0], NOTES[2], NOTES[1]]


@pytest.mark.usefixtures("content")
def test_line_is_in_the_target_before_it_is_removed(
    lines: JsonLines[Note], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, write: object) -> None:
        raise OSError(28, "No space left on device")

    target = JsonLines(tmp_path / "target.jsonl", Note)
    monkeypatch.setattr("benchmarks.records.json_lines.replace_file", fail)
    with pytest.raises(OSError, match=r"notes\.jsonl"):
        lines.move_lines(lambda note: True, target)
    assert lines.read() == target.read() == NOTES
