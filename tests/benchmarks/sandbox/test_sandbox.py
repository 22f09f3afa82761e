import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sandbox.errors import FileCheckFailed
from benchmarks.sandbox.messages import MAX_PRINTED_BYTES, SandboxAnswer

RunProgram = Callable[..., SandboxAnswer]


def test_answer_is_returned(run_program: RunProgram) -> None:
    assert run_program("send(verdict={'model': 'mine', 'macs': 12, 'notes': []})") == SandboxAnswer(
        {"verdict": {"model": "mine", "macs": 12, "notes": []}}, ""
    )


def test_child_receives_the_request(run_program: RunProgram) -> None:
    program = "send(request={name: value for name, value in request.items() if name != 'nonce'})"
    assert run_program(program).message == {"request": {"device": "cpu", "path": "net.py", "die_with_parent": True}}


def test_text_without_the_nonce_is_no_answer(run_program: RunProgram) -> None:
    program = r"""
print(json.dumps({"verdict": "forged", "nonce": ""}), flush=True)
os.write(1, b"\xff\xfe\n")
send(verdict="true")
"""
    assert run_program(program).message == {"verdict": "true"}


def test_progress_arrives_before_the_answer(run_program: RunProgram) -> None:
    reports: list[dict[str, Any]] = []
    program = "send(progress={'done': 1}); send(progress={'done': 2}); send(failed='no')"
    answer = run_program(program, progress=reports.append)
    assert reports == [{"done": 1}, {"done": 2}]
    assert answer.message == {"failed": "no"}


def test_text_printed_before_the_answer_is_kept(run_program: RunProgram, tmp_path: Path) -> None:
    """Test a slow parent process, which finds both pipes readable at the same time."""
    finished = tmp_path / "finished"
    program = f"""
send(progress={{}})
print("last words", file=sys.stderr, flush=True)
send(done=True)
open({str(finished)!r}, "w").close()
"""

    def wait(_: dict[str, Any]) -> None:
        while not finished.exists():
            time.sleep(0.01)

    assert run_program(program, progress=wait).printed == "last words"


def test_long_output_is_cut(run_program: RunProgram) -> None:
    answer = run_program("print('x\\n' * 2**18, file=sys.stderr, flush=True); send(failed='y' * 10**5)")
    assert answer.message == {"failed": "y" * 2000}
    assert 0 < len(answer.printed) <= MAX_PRINTED_BYTES


def test_endless_messages_are_stopped(run_program: RunProgram) -> None:
    with pytest.raises(FileCheckFailed, match="256 KiB"):
        run_program("while True: os.write(1, b'x' * 2**16)")


def test_daemon_is_killed_after_the_answer(
    run_program: RunProgram, sleep_command: list[str], sleeping: Callable[[], list[int]]
) -> None:
    run_program(f"subprocess.Popen({sleep_command!r}, start_new_session=True); send(done=True)")
    assert sleeping() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("os._exit(0)", r"exited without a result$"),
        (
            "print('first', file=sys.stderr); print('last\\x1b', file=sys.stderr, flush=True); os._exit(3)",
            r"exited without a result; .*: last\?$",
        ),
        ("os.kill(os.getpid(), 11)", r"exited without a result \(SIGSEGV\)$"),
        ("os.close(1); time.sleep(60)", r"exited without a result$"),
    ],
    ids=["silent", "last words", "crash", "closed output"],
)
def test_child_without_an_answer_is_reported(program: str, expected: str, run_program: RunProgram) -> None:
    with pytest.raises(FileCheckFailed, match=expected):
        run_program(program)


@pytest.mark.parametrize(
    "program",
    [
        "os.kill(os.getpid(), 9)",
        "bytes(2**50)",
        'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
        'print("  what():  std::bad_alloc", file=sys.stderr, flush=True); os.abort()',
    ],
    ids=["killed", "MemoryError", "torch", "C++"],
)
def test_child_without_memory_is_reported(program: str, run_program: RunProgram) -> None:
    with pytest.raises(FileCheckFailed, match=r"ran out of memory.* 1\.0 GiB \(--memory-limit\)"):
        run_program(program)
