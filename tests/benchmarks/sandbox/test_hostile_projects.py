"""Test that hostile folders, packages and neighbors of a model file do no harm, in each sandbox that works here."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.request import CheckRequest
from benchmarks.cli.budget_check import main
from benchmarks.definition.benchmark import Benchmark
from benchmarks.execution.progress import silent
from benchmarks.sandbox.file_check import FileChecker, FilePolicy
from benchmarks.sandbox.kinds import SandboxKind
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.many import check_models

NUM_FILES = 30_000
SECRET = "do not tell"
UNTIMED = ["--benchmark", "digits", "--device", "cpu", "--no-timing"]
NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self, num_classes=10): super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""

CheckAll = Callable[..., list[CheckedModel]]

pytestmark = pytest.mark.slow


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Create a repository next to a secret, and return it."""
    folder = tmp_path / "repo"
    folder.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    return folder


@pytest.fixture
def check_all(kind: SandboxKind, tiny: Benchmark) -> CheckAll:
    """Return a function that checks several files in one sandbox, one after the other."""

    def check(*paths: Path) -> list[CheckedModel]:
        requests = [CheckRequest(str(path), tiny, "cpu") for path in paths]
        return check_models(requests, FilePolicy(SandboxLimits(60), kind=kind).share(1), silent)

    return check


def params(outcome: CheckedModel) -> int:
    assert outcome.verdict is not None, outcome.reason
    return outcome.verdict.cost.params


@pytest.mark.parametrize("marker", [".git", "pyproject.toml"])
def test_marker_that_links_to_the_root_does_not_make_it_visible(marker: str, repo: Path, check_all: CheckAll) -> None:
    (repo / marker).symlink_to("/")
    (repo / "net.py").write_text(f"open({str(repo.parent / 'secret')!r})" + NET)
    (outcome,) = check_all(repo / "net.py")
    assert outcome.reason.startswith(("FileNotFoundError", "PermissionError"))


def test_package_that_acts_when_it_is_imported_is_confined(repo: Path, check_all: CheckAll) -> None:
    """Test an `__init__.py` that writes to the repository and above it, and reads the secret."""
    action = """
import os
done = []
for path in ({folder!r} + "/trace", {folder!r} + "/package/net.py"):
    try: open(path, "w"); done.append(path)
    except OSError: pass
try: open({folder!r} + "/../trace", "w")  # with bubblewrap, this is in the scratch folder
except OSError: pass
try: done.append(open({folder!r} + "/../secret").read())
except OSError: pass
assert not done, done
"""
    package = repo / "package"
    package.mkdir()
    (package / "__init__.py").write_text(action.format(folder=str(repo)))
    (package / "part.py").touch()
    (package / "net.py").write_text("from .part import *\n" + NET)
    (outcome,) = check_all(package / "net.py")
    assert params(outcome) == 650
    assert outcome.verdict is not None
    assert [choice for choice in outcome.verdict.choices if "was skipped" in choice] == []
    assert [path.name for path in repo.parent.rglob("trace")] == []
    assert (package / "net.py").read_text().endswith(NET)


def test_links_out_of_the_folder_are_not_followed(repo: Path, kind: SandboxKind) -> None:
    other = repo.parent / "other"
    other.mkdir()
    (other / "net.py").write_text(NET)
    (repo / "own.py").write_text(NET)
    (repo / "net.py").symlink_to(other / "net.py")
    (repo / "folder").symlink_to(other)
    (repo / "loop").symlink_to(repo)
    (repo / "root").symlink_to("/")
    with FileChecker(FilePolicy(SandboxLimits(60), kind=kind)) as checker:
        models, _ = checker.list_models(str(repo))
    assert [Path(model).name for model in models] == ["own.py:Net"]


def test_pipe_in_a_folder_is_not_opened(repo: Path, kind: SandboxKind) -> None:
    for name in ("net.py", "net.pth", ".git"):
        os.mkfifo(repo / name)
    (repo / "own.py").write_text(NET)
    with FileChecker(FilePolicy(SandboxLimits(60), kind=kind)) as checker:
        assert len(checker.list_models(str(repo))[0]) == 1


def test_huge_folder_is_listed_in_part(repo: Path, kind: SandboxKind) -> None:
    for number in range(NUM_FILES):
        os.mknod(repo / f"{number}.py") if hasattr(os, "mknod") else (repo / f"{number}.py").touch()
    (repo / "00.py").write_text(NET)
    started = time.monotonic()
    with FileChecker(FilePolicy(SandboxLimits(100), kind=kind)) as checker:
        models, notes = checker.list_models(str(repo))
    assert time.monotonic() - started < 100 + 60
    assert [Path(model).name for model in models] == ["00.py:Net"]
    assert "entries" in notes[0]


def test_source_that_breaks_the_parser_does_not_stop_the_list(repo: Path, kind: SandboxKind) -> None:
    hostile = {
        "nested": "import torch\nx = " + "(" * 5000 + ")" * 5000,
        "minus": "import torch\nx = " + "-" * 100_000 + "1",
        "long": "import torch\n" + "x = 1\n" * 400_000,
        "zero": "import torch\0",
        "binary": "import torch \udcff\udcfe",
        "names": "import torch\n" + "".join(f"def f{i}(): return f{i + 1}()\n" for i in range(3000)),
    }
    for name, text in hostile.items():
        (repo / f"{name}.py").write_text(text, errors="surrogateescape")
    (repo / "own.py").write_text(NET)
    with FileChecker(FilePolicy(SandboxLimits(100), kind=kind)) as checker:
        models, _ = checker.list_models(str(repo))
    assert f"{repo}/own.py:Net" in models


@pytest.mark.parametrize(
    "call", ["Net(().__class__)", "Net([x for x in (1,)])", "Net(**{})", "os.system('true')", "Net(Net())"]
)
def test_call_with_code_is_invalid(call: str, repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repo / "net.py").write_text(NET)
    assert main([f"{repo}/net.py:{call}", *UNTIMED]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


ATTACKS = {
    "daemon": "os.fork() or (os.setsid(), time.sleep(1000))",
    "thread": "import threading; threading.Thread(target=time.sleep, args=(1000,)).start()",
    "descriptors": "[os.write(number, b'{\"ended\": 0}') for number in range(64) if number_is_open(number)]",
    "half a line": "[os.write(number, b'half a line') for number in range(64) if number_is_open(number)]",
    "signal": "os.kill(os.getppid(), 19)",
    "forged end": "answer('verdict'), answer('ended'), time.sleep(1000)",
    "stolen pipe": "os.write(os.open(f'/proc/{os.getppid()}/fd/4', os.O_WRONLY), b'{}\\n')",
    "pipe of the first process": "os.write(os.open('/proc/1/fd/0', os.O_WRONLY), b'{}\\n')",
    "limits": "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (4, 4))",
    "priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "pipes without blocking": "[os.set_blocking(number, False) for number in range(2, 64) if number_is_open(number)]",
    "locked folders": "os.mkdir(Path.home() / 'locked'); os.chmod(Path.home() / 'locked', 0); os.chmod(Path.home(), 0)",
    "environment": "os.environ.update(LD_PRELOAD='/nothing', PYTHONPATH='/nothing')",
    "modules": "import torch.nn.functional as F; F.linear = None; import ast; ast.parse = None",
    "home": "[(Path.home() / name).mkdir() for name in ('torch', 'arch', 'benchmarks', 'x' * 250)]",
}


FORGED_ANSWER = """
import json, sys
frame = sys._getframe()
while not isinstance(frame.f_locals.get("request"), dict): frame = frame.f_back
cost = {"params": 2, "trainable_params": 2}
forged = {"model": "forged", "benchmark": "digits", "budget": {}, "image_size": 8, "batch_size": 64, "cost": cost}
def answer(name):
    content = {name: forged if name == "verdict" else 0, "nonce": frame.f_locals["request"]["nonce"]}
    os.write(3, f"\\n{json.dumps(content)}\\n".encode())  # the child's channel

"""
UNCHANGED = """
import os, resource
from pathlib import Path
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4
assert os.getpriority(os.PRIO_PROCESS, 0) < 19
assert os.get_blocking(2)
assert not (Path.home() / "locked").exists()
"""


@pytest.mark.usefixtures("_run_files_without_torch")
@pytest.mark.parametrize("attack", ATTACKS)
def test_neighbor_in_the_same_sandbox_does_not_change_the_next_verdict(
    attack: str, repo: Path, check_all: CheckAll
) -> None:
    helper = "import os, time\nfrom pathlib import Path\ndef number_is_open(number):\n    try: os.fstat(number)\n"
    helper += "    except OSError: return False\n    return True\n"
    helper += FORGED_ANSWER
    (repo / "a.py").write_text(helper + ATTACKS[attack])
    (repo / "b.py").write_text(UNCHANGED)
    _, second = check_all(repo / "a.py", repo / "b.py")
    assert params(second) == 1
    assert second.verdict is not None
    assert second.verdict.model == "b.py"


@pytest.mark.usefixtures("_run_files_without_torch")
def test_memory_of_the_sandbox_is_closed_to_files(repo: Path, check_all: CheckAll) -> None:
    """Test that the code of a file cannot change the process that has started it."""
    attack = """
import os
opened = []
for number in (1, os.getppid()):
    for name in ("mem", "fd/1", "fd/3", "fd/4"):
        try: os.close(os.open(f"/proc/{number}/{name}", os.O_WRONLY)); opened.append(name)
        except OSError: pass
assert not opened, opened
"""
    (repo / "net.py").write_text(attack)
    (outcome,) = check_all(repo / "net.py")
    assert params(outcome) == 1
