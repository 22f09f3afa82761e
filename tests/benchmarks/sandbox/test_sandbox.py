"""What surrounds a child, with children that answer without loading torch."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.sandbox import sandbox
from benchmarks.sandbox.sandbox import (
    FileCheckFailed,
    SandboxAnswer,
    SandboxKind,
    SandboxLimits,
    best_sandbox,
    is_regular,
    with_memory,
    words,
    works,
)

LIMITS = SandboxLimits(seconds=60, memory=2**30, processes=8)
HEAD = """
import json, os, subprocess, sys, time
request = json.loads(sys.stdin.buffer.readline())

def say(**message):
    print(json.dumps({**message, "nonce": request["nonce"]}), flush=True)

"""
NAP = "271828.18"  # how long a forgotten process sleeps; no other process has such an argument

Judge = Callable[..., SandboxAnswer]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Lets a program of a few lines stand for the judge, and returns its answer."""

    def run(
        program: str, limits: SandboxLimits = LIMITS, progress: Callable[[dict[str, Any]], None] = lambda _: None
    ) -> SandboxAnswer:
        monkeypatch.setattr(sandbox, "PROGRAM", HEAD + program)
        return sandbox.judge({"device": "cpu", "path": "net.py"}, tmp_path / "net.py", limits, "none", progress)

    return run


def test_the_answer_comes_back(judge: Judge) -> None:
    assert judge("say(verdict={'model': 'mine', 'macs': 12, 'notes': []})") == SandboxAnswer(
        {"verdict": {"model": "mine", "macs": 12, "notes": []}}, ""
    )


def test_the_child_is_told_its_request(judge: Judge) -> None:
    message = judge("say(told={name: value for name, value in request.items() if name != 'nonce'})").message
    assert message == {"told": {"device": "cpu", "path": "net.py", "die_with_parent": True}}


def test_only_what_knows_the_secret_word_is_believed(judge: Judge) -> None:
    program = """
print(json.dumps({"verdict": "forged"}))
print(json.dumps({"verdict": "forged", "nonce": ""}))
print(json.dumps({"verdict": "forged", "nonce": "0" * 32}))
print(json.dumps(["verdict", request["nonce"]]))
print(request["nonce"])
print("no JSON {")
print("[" * 100_000)
print()
sys.stdout.flush()
os.write(1, b"\\xff\\xfe\\n")
say(verdict="true")
"""
    assert judge(program).message == {"verdict": "true"}


def test_progress_arrives_before_the_answer(judge: Judge) -> None:
    seen: list[dict[str, Any]] = []
    answer = judge("say(progress={'done': 1}); say(progress={'done': 2}); say(failed='no')", progress=seen.append)
    assert seen == [{"done": 1}, {"done": 2}]
    assert answer.message == {"failed": "no"}


def test_no_control_character_comes_through(judge: Judge) -> None:
    answer = judge(r"""
say(failed="\x1b[31m red", **{"\x07key": ["a\nb", {"c\td": "é \u202e \u2028"}, 1.5, None, True]})
""")
    assert answer.message == {"failed": "?[31m red", "?key": ["a?b", {"c?d": "é ? ?"}, 1.5, None, True]}


def test_what_is_printed_keeps_its_lines_alone(judge: Judge) -> None:
    program = r"print('\x1b]0;title\x07\none\r\ntwo', file=sys.stderr, flush=True); os.write(2, b'\xff');"
    assert judge(program + "say(done=True)").printed == "?]0;title?\none\ntwo\n\N{REPLACEMENT CHARACTER}"


def test_what_was_printed_before_the_answer_is_kept(judge: Judge, tmp_path: Path) -> None:
    """Also where both lie ready at once, as they do when this process is slow."""
    spoken = tmp_path / "spoken"
    program = f"""
say(progress={{}})
print("last words", file=sys.stderr, flush=True)
say(done=True)
open({str(spoken)!r}, "w").close()
"""

    def wait(_: dict[str, Any]) -> None:
        while not spoken.exists():
            time.sleep(0.01)

    assert judge(program, progress=wait).printed == "last words"


def test_words_without_end_are_cut(judge: Judge) -> None:
    answer = judge("print('x\\n' * 2**18, file=sys.stderr, flush=True); say(failed='y' * 10**5)")
    assert answer.message == {"failed": "y" * 2000}
    assert 0 < len(answer.printed) <= sandbox.PRINTED_LIMIT


@pytest.mark.parametrize("text", ["'x' * 2**16", "('x' * 500 + '\\n') * 100"], ids=["one line", "many lines"])
def test_messages_without_end_are_stopped(text: str, judge: Judge) -> None:
    with pytest.raises(FileCheckFailed, match=r"^it said more than any verdict has to say$"):
        judge(f"while True: os.write(1, ({text}).encode())")


def test_time_is_limited(judge: Judge) -> None:
    with pytest.raises(FileCheckFailed, match=r"^it took longer than 0\.2 s \(--time-limit\)$"):
        judge("time.sleep(60)", SandboxLimits(0.2, 2**30))


def test_memory_is_limited(judge: Judge) -> None:
    with pytest.raises(
        FileCheckFailed, match=r"^its 1 processes took more than 0\.1 GiB of memory \(--memory-limit\)$"
    ):
        judge("hoard = b'x' * 2**28; time.sleep(60)", SandboxLimits(60, 2**27))


def test_memory_of_all_processes_together_is_limited(judge: Judge) -> None:
    program = f"""
code = "import time; hoard = b'x' * 2**26; time.sleep({NAP})"
for _ in range(4): subprocess.Popen([sys.executable, "-c", code])
time.sleep(60)
"""
    with pytest.raises(FileCheckFailed, match=r"processes took more than 0\.2 GiB of memory"):
        judge(program, SandboxLimits(60, 2**28 - 2**25))
    assert left_behind() == []


def test_processes_are_limited_and_ended(judge: Judge) -> None:
    program = f"for _ in range(3): subprocess.Popen(['sleep', '{NAP}'])\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match=r"^it started more than 3 processes$"):
        judge(program, SandboxLimits(60, 2**30, processes=3))
    assert left_behind() == []


def test_a_daemon_is_ended_with_the_answer(judge: Judge) -> None:
    judge(f"subprocess.Popen(['sleep', '{NAP}'], start_new_session=True); say(done=True)")
    assert left_behind() == []


def left_behind() -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if NAP in " ".join(process.info["cmdline"] or ()) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("kept", ["named", "removed"])
def test_the_disk_is_limited(kept: str, judge: Judge) -> None:
    program = f"""
file = open("hoard", "wb")
if {kept == "removed"}: os.remove("hoard")
file.write(bytes(2**21))
file.flush()
time.sleep(60)
"""
    with pytest.raises(FileCheckFailed, match=r"^it wrote more than 0\.0 GiB or 20,000 files to the disk$"):
        judge(program, SandboxLimits(60, 2**30, processes=8, disk=2**20))


def test_files_are_limited(judge: Judge) -> None:
    program = "for name in range(20): os.mkdir(str(name)); open(f'{name}/file', 'w').close()\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match=r"^it wrote more than 2\.0 GiB or 30 files to the disk$"):
        judge(program, SandboxLimits(60, 2**30, processes=8, files=30))


def test_a_folder_too_deep_to_be_counted_is_too_many_files(judge: Judge) -> None:
    program = "for _ in range(3000): os.mkdir('d'); os.chdir('d')\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match=r"20,000 files to the disk$"):
        judge(program)


def test_memory_that_is_a_file_counts(judge: Judge) -> None:
    program = "file = os.memfd_create('hoard'); os.write(file, bytes(2**28))\ntime.sleep(60)"
    with pytest.raises(FileCheckFailed, match=r"memory"):
        judge(program, SandboxLimits(60, 2**28))


def test_a_child_that_dies_is_told_by_its_last_words(judge: Judge) -> None:
    program = "print('first', file=sys.stderr); print('last\\x1b', file=sys.stderr, flush=True); os._exit(3)"
    with pytest.raises(FileCheckFailed, match=r"^its process ended without an answer; its last words: last\?$"):
        judge(program)


def test_a_child_may_die_without_a_word(judge: Judge) -> None:
    with pytest.raises(FileCheckFailed, match=r"^its process ended without an answer$"):
        judge("os._exit(0)")


def test_nothing_of_this_environment_is_passed_on_but_what_it_needs(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = judge("say(environment=dict(os.environ))").message["environment"]
    assert "secret" not in environment.values()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["USER"] == "nobody"


def test_a_child_has_a_scratch_folder_of_its_own(judge: Judge) -> None:
    message = judge("open('trace', 'w').close(); say(home=os.environ['HOME'], here=os.getcwd())").message
    assert message["home"] == message["here"]
    assert Path(message["home"]) not in (Path.home(), Path.cwd())
    assert not Path(message["home"]).exists()


def test_the_interpreter_is_isolated(judge: Judge) -> None:
    program = "say(isolated=sys.flags.isolated, written=sys.dont_write_bytecode, session=os.getsid(0) == os.getpid())"
    assert judge(program).message == {"isolated": 1, "written": True, "session": True}


def test_limits_are_said() -> None:
    assert SandboxLimits(600, 3 * 2**29, 64).words() == "600 s, 1.5 GiB, 64 processes"
    assert SandboxLimits(0.5, 2**30, 1).words() == "0.5 s, 1.0 GiB, 1 processes"


def test_memory_that_is_not_limited_is_limited_to_a_share_of_what_is_free() -> None:
    assert 0 < with_memory(SandboxLimits()).memory < psutil.virtual_memory().total
    assert with_memory(SandboxLimits(7, 5, 3, 2)) == SandboxLimits(7, 5, 3, 2)


@pytest.mark.parametrize(
    ("kind", "start"),
    [("bubblewrap", "bubblewrap (no network"), ("sandlock", "sandlock (no network"), ("none", "none: its code could")],
)
def test_what_held_a_file_is_said(kind: SandboxKind, start: str) -> None:
    text = words(kind, LIMITS)
    assert text.startswith(start)
    assert text.endswith(f"; limits {LIMITS.words()}")


def test_nothing_works_everywhere() -> None:
    assert works("none")


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        ({"bubblewrap", "sandlock", "none"}, "bubblewrap"),
        ({"sandlock", "none"}, "sandlock"),
        ({"none"}, "none"),
    ],
)
def test_the_best_sandbox_that_works_is_taken(
    working: set[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "works", lambda kind: kind in working)
    assert best_sandbox.__wrapped__() == expected


def test_bubblewrap_that_is_not_installed_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.sandbox.sandbox.shutil.which", lambda _: None)
    monkeypatch.setattr(sandbox, "_bwrap", sandbox._bwrap.__wrapped__)
    assert not works("bubblewrap")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and beside it a folder of temporary files and a project."""
    for name in ("user", "user/project", "temporary", "temporary/project", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "user"


@pytest.mark.parametrize("folder", ["user", "temporary", "."])
def test_of_the_home_and_temporary_folders_only_the_file_can_be_read(folder: str, home: Path) -> None:
    path = home.parent / folder / "net.py"
    path.touch()
    readable = {Path(place) for place in sandbox._readable(path)}
    assert path.resolve() in readable
    assert not readable & {home, home.parent, home.parent / "temporary", Path("/")}


@pytest.mark.parametrize("folder", ["user/project", "temporary/project", "project"])
def test_of_a_project_the_folder_can_be_read(folder: str, home: Path) -> None:
    path = home.parent / folder / "net.py"
    path.touch()
    readable = {Path(place) for place in sandbox._readable(path)}
    assert path.parent in readable
    assert not readable & {home, home.parent, home.parent / "temporary", Path("/")}


def test_a_link_opens_the_folder_it_points_to(home: Path) -> None:
    target = home / "project" / "net.py"
    target.touch()
    (home / "link.py").symlink_to(target)
    readable = {Path(place) for place in sandbox._readable(home / "link.py")}
    assert target.parent in readable
    assert home not in readable


def test_the_interpreter_can_be_read(tmp_path: Path) -> None:
    assert sys.prefix in sandbox._readable(tmp_path / "net.py")


def test_only_a_file_is_regular(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "loose").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert is_regular(tmp_path / "file")
    assert is_regular(tmp_path / "link")
    others = ("pipe", "loose", "loop", "missing", ".", "x" * 300)
    assert not any(is_regular(tmp_path / name) for name in others)
    assert not is_regular(Path(os.devnull))
