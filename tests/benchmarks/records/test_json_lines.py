import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from arch.errors import InputError
from benchmarks.records.json_lines import JsonLines


@dataclass(frozen=True)
class Note:
    """A record with a field of each kind."""

    word: str
    number: int
    share: float
    more: dict[str, float] = field(default_factory=dict)


NOTES = [Note("é\n☃", 7, 0.1 + 0.2, {"a": 1.5}), Note("second", -1, 1e-300), Note('"}', 2**40, -0.0)]


@pytest.fixture
def lines(tmp_path: Path) -> JsonLines[Note]:
    return JsonLines(tmp_path / "notes.jsonl", Note)


@pytest.fixture
def written(lines: JsonLines[Note]) -> bytes:
    """What the file of three notes holds."""
    for note in NOTES:
        lines.append(note)
    return lines.path.read_bytes()


def test_what_is_appended_comes_back_in_order(lines: JsonLines[Note], written: bytes) -> None:
    assert lines.read() == NOTES
    assert lines.damaged == []
    assert JsonLines(lines.path, Note).read() == NOTES


def test_each_line_is_json_with_a_sha256_that_others_can_check(written: bytes) -> None:
    for line, note in zip(written.splitlines(), NOTES, strict=True):
        content = json.loads(line)
        digest = content.pop("sha256")
        assert content == asdict(note)
        assert hashlib.sha256(json.dumps(content).encode()).hexdigest() == digest


def test_no_file_and_an_empty_one_hold_nothing_and_need_no_repair(lines: JsonLines[Note]) -> None:
    assert (lines.read(), lines.repair(), lines.path.exists()) == ([], "", False)
    lines.path.touch()
    assert (lines.read(), lines.repair(), lines.damaged) == ([], "", [])
    lines.append(NOTES[0])
    assert lines.read() == NOTES[:1]


def test_a_flipped_bit_anywhere_never_gives_a_record_that_was_not_written(
    lines: JsonLines[Note], written: bytes
) -> None:
    ends = [place for place, byte in enumerate(written) if byte == ord("\n")]
    for place in range(len(written)):
        spoilt = bytearray(written)
        spoilt[place] ^= 1 << place % 8
        lines.path.write_bytes(spoilt)
        hit = sum(end < place for end in ends)  # the line that the byte is in or ends
        both = {hit, hit + 1} if place in ends else {hit}
        assert lines.read() == [note for number, note in enumerate(NOTES) if number not in both], place
        assert hit + 1 in lines.damaged


def test_a_record_of_another_line_or_file_with_its_own_sha256_is_the_same_record(
    lines: JsonLines[Note], written: bytes
) -> None:
    first, second, third = written.splitlines(keepends=True)
    lines.path.write_bytes(third + first + second)
    assert lines.read() == [NOTES[2], NOTES[0], NOTES[1]]
    swapped = first[:-67] + second[-67:]  # the sha256 of one on the content of another
    lines.path.write_bytes(swapped + second)
    assert lines.read() == [NOTES[1]]
    assert lines.damaged == [1]


def sealed(content: bytes) -> bytes:
    return content[:-1] + b', "sha256": "%s"}\n' % hashlib.sha256(content).hexdigest().encode()


@pytest.mark.parametrize(
    "content",
    [
        b'{"word": "a", "number": 1}',
        b'{"word": "a", "number": "1", "share": 1.0}',
        b'{"word": "a", "number": 1, "share": 1.0, "unknown": 1}',
        b'{"word": "a", "number": 1, "share": NaN}',
        b"{}",
    ],
)
def test_a_sha256_that_fits_makes_no_record_of_what_is_none(
    lines: JsonLines[Note], written: bytes, content: bytes
) -> None:
    lines.path.write_bytes(sealed(content) + written)
    assert lines.read() == NOTES
    assert lines.damaged == [1]


def test_cut_off_at_any_length_the_lines_before_stay_and_the_next_one_joins_them(
    lines: JsonLines[Note], written: bytes
) -> None:
    kept = lines.path.with_suffix(".torn")
    for length in range(len(written)):
        kept.unlink(missing_ok=True)
        lines.path.write_bytes(written[:length])
        whole, torn = written[:length].count(b"\n"), written[:length].rpartition(b"\n")[2]
        is_whole = written[length : length + 1] == b"\n"  # only its end is missing
        there = NOTES[: whole + is_whole]
        assert lines.read() == there
        said = lines.repair()
        assert ("cut off" in said and str(lines.path) in said) == bool(torn and not is_whole)
        assert (kept.read_bytes() if kept.exists() else b"") == (b"" if is_whole or not torn else torn + b"\n")
        assert lines.repair() == ""
        lines.append(NOTES[1])
        assert lines.read() == [*there, NOTES[1]]
        assert lines.damaged == []


def test_an_append_repairs_what_it_finds(lines: JsonLines[Note], written: bytes) -> None:
    for _ in range(2):
        lines.path.write_bytes(lines.path.read_bytes()[:-10])
        lines.append(NOTES[2])
    assert lines.read() == NOTES
    assert lines.path.read_bytes() == written
    assert len(lines.path.with_suffix(".torn").read_bytes().splitlines()) == 2


def test_a_damaged_line_in_the_middle_is_left_for_a_person_to_see(lines: JsonLines[Note], written: bytes) -> None:
    spoilt = written.replace(b"second", b"sEcond")
    lines.path.write_bytes(spoilt)
    assert lines.repair() == ""
    lines.append(NOTES[1])
    assert lines.path.read_bytes().startswith(spoilt)
    assert lines.read() == [NOTES[0], NOTES[2], NOTES[1]]
    assert lines.damaged == [2]


def test_a_number_that_is_none_is_refused_and_nothing_is_written(lines: JsonLines[Note], written: bytes) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        lines.append(Note("a", 1, float("nan")))
    assert lines.path.read_bytes() == written


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "notes.jsonl"
    folder.mkdir()
    with pytest.raises(InputError, match=rf"cannot read {folder}: Is a directory"):
        JsonLines(folder, Note).read()
    with pytest.raises(OSError, match=str(folder)):
        JsonLines(folder, Note).append(NOTES[0])
    nowhere = tmp_path / "nowhere" / "notes.jsonl"
    with pytest.raises(OSError, match=f"cannot write {nowhere}: No such file"):
        JsonLines(nowhere, Note).append(NOTES[0])


def test_on_a_full_disk_nothing_changes_and_with_room_it_goes_on(small_disk: Path, fill: Callable[[], Path]) -> None:
    lines = JsonLines(small_disk / "notes.jsonl", Note)
    long = Note("x" * 6000, 1, 1.0)  # of which the last page takes a part
    lines.append(long)
    before, ballast = lines.path.read_bytes(), fill()
    for _ in range(2):
        with pytest.raises(OSError, match=f"cannot write {lines.path}: No space left on device"):
            lines.append(long)
        assert lines.path.read_bytes() == before
    assert lines.read() == [long]
    ballast.unlink()
    lines.append(NOTES[0])
    assert lines.read() == [long, NOTES[0]]


def test_a_torn_line_on_a_full_disk_spoils_nothing(small_disk: Path, fill: Callable[[], Path]) -> None:
    lines = JsonLines(small_disk / "notes.jsonl", Note)
    long = Note("x" * 6000, 1, 1.0)
    for _ in range(2):
        lines.append(long)
    lines.path.write_bytes(lines.path.read_bytes()[:-20])
    torn = lines.path.read_bytes()
    ballast = fill()
    with pytest.raises(OSError, match=r"notes\.jsonl: No space left on device"):  # it could not be kept
        lines.repair()
    assert lines.path.read_bytes() == torn
    assert lines.read() == [long]
    ballast.unlink()
    assert "cut off" in lines.repair()
    lines.append(NOTES[0])
    assert lines.read() == [long, NOTES[0]]


def test_the_marks_of_an_editor_are_no_damage(lines: JsonLines[Note], written: bytes) -> None:
    lines.path.write_bytes(b"\xef\xbb\xbf" + written.replace(b"\n", b"\r\n"))
    assert lines.read() == NOTES
    assert lines.damaged == []


@dataclass(frozen=True)
class Long:
    """A record with a list that one may do without."""

    word: str
    curve: list[dict[str, float]]
    rest: list[list[int]] = field(default_factory=list)


LONG = [
    Long('"curve": [1]', [{"a": 1.0}, {"b": 2.0}], [[3], [], [4]]),
    Long("x", [], []),
    Long('\\", "curve": [', [{"a": 0.5}]),
]


def test_what_is_not_wanted_is_not_read_and_all_else_is(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "long.jsonl", Long)
    for record in LONG:
        lines.append(record)
    assert lines.read() == LONG
    assert lines.read(without=["curve"]) == [Long(record.word, [], record.rest) for record in LONG]
    assert lines.read(without=["curve", "rest"]) == [Long(record.word, [], []) for record in LONG]
    assert lines.read(without=["rest"]) == [Long(record.word, record.curve, []) for record in LONG]
    lines.path.write_bytes(lines.path.read_bytes().replace(b"2.0", b"3.0"))
    assert [record.word for record in lines.read(without=["curve"])] == [LONG[1].word, LONG[2].word]
    assert lines.damaged == [1]
