"""Files that mean harm: each gets its exit code in time, does nothing, and leaves no process."""

import json
import os
import pickle
import socket
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory, gettempdir
from typing import Any

import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from benchmarks.cli.budget_check import main
from benchmarks.sandbox import sandbox

SECONDS = 120  # that a file may take where it does not take for ever
SHORT = 10
NET = """
import os, sys, time, socket, torch
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.first, self.last = nn.Linear(64, hidden), nn.Linear(hidden, 10)
    def forward(self, x):
        return self.last(self.first(x.flatten(1)))

def build():
    return Net()
"""
LARGE = "nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 10)"  # 300,010 parameters, over the limit
GONE = 30  # seconds that killed processes may take to die
DAEMON = "314159.26"  # how long a forgotten daemon sleeps; no other process has such an argument

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sandbox.best_sandbox() == "none", reason="needs bubblewrap or sandlock"),
]


def ours() -> list[str]:
    """Processes that a judgement started and that still live."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if ("budget-check-" in words or DAEMON in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Iterator[Check]:
    """Runs budget-check on the digits and returns its exit code and what it printed."""

    def run(path: Path | str, *options: str, seconds: float = SECONDS) -> tuple[int, str, str]:
        started = time.monotonic()
        limit = ["--time-limit", str(seconds)]
        code = main([str(path), "--benchmark", "digits", "--device", "cpu", "--no-timing", *limit, *options])
        assert time.monotonic() - started < seconds + 60  # far less than what hangs would take
        out, err = capsys.readouterr()
        told = ("counting parameters and MACs: ", "timing a few training steps: ")  # where it takes ten seconds
        err = "".join(line for line in err.splitlines(keepends=True) if not line.startswith(told))
        assert not any(ord(letter) < 32 and letter != "\n" for letter in out + err)
        return code, " ".join(out.split()), err

    yield run
    end = time.monotonic() + GONE
    while ours() and time.monotonic() < end:
        time.sleep(0.1)
    assert ours() == []


def source(folder: Path, text: str) -> str:
    """A Python file, whose `build` is the model."""
    path = folder / "net.py"
    path.write_text(NET + text)
    return f"{path}:build"


@pytest.mark.parametrize(
    "text",
    [
        "while True: pass",
        "def build():\n    while True: pass",
        "Net.forward = lambda self, x: [None for _ in iter(int, 1)]",
        "time.sleep(10**6)",
    ],
    ids=["import", "init", "forward", "sleep"],
)
def test_what_never_ends_is_ended(text: str, tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, text), seconds=SHORT)
    assert code == 3
    assert f"it took longer than {SHORT} s" in err


def test_a_fork_bomb_is_ended(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, "while True: os.fork()"))
    assert code == 3
    assert "processes" in err or "BlockingIOError" in err


def test_a_daemon_does_not_outlive_the_verdict(tmp_path: Path, check: Check) -> None:
    text = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{DAEMON}"])
    os._exit(0)
time.sleep(0.5)
"""
    assert check(source(tmp_path, text))[0] == 0


def test_memory_is_limited(tmp_path: Path, check: Check) -> None:
    text = "hoard = []\nwhile True: hoard.append(b'x' * 2**26)"
    code, _, err = check(source(tmp_path, text), "--memory-limit", "1")
    assert code == 3
    assert "memory" in err.lower() or "ended without an answer" in err


def test_a_trillion_parameters_are_over_without_being_built(tmp_path: Path, check: Check) -> None:
    code, out, _ = check(source(tmp_path, "def build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10**10))"))
    assert code == 1
    assert "OVER: 650,000,000,000 parameters > 200,000" in out


def test_a_trillion_parameters_in_memory_cannot_be_judged(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, "def build(): return nn.Linear(10**6, 10**6, device='cpu')"))
    assert code == 3
    assert "allocate" in err


@pytest.mark.parametrize(
    "text",
    [
        "def build():\n    net = Net()\n    for _ in range(5000): net = nn.Sequential(net)\n    return net",
        "def build():\n    net = Net()\n    net.first.owner = net\n    return net",
    ],
    ids=["nested", "cyclic"],
)
def test_modules_without_end_cannot_be_judged(text: str, tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, text))
    assert code == 3
    assert "RecursionError" in err


@pytest.mark.parametrize(
    "text",
    [
        f"def build():\n    net = nn.Sequential(nn.Flatten(), {LARGE})\n    net.parameters = lambda *_: iter(())\n"
        "    return net",
        f"class Liar(nn.Sequential):\n    def named_parameters(self, *a, **k): return iter(())\n"
        f"    parameters = named_modules = _named_members = named_parameters\n"
        f"def build(): return Liar(nn.Flatten(), {LARGE})",
        f"class Hider(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.net = [{LARGE}]\n"
        "    def forward(self, x):\n        x = x.flatten(1)\n        for layer in self.net: x = layer(x)\n"
        "        return x\nbuild = Hider",
    ],
    ids=["parameters", "every method", "plain list"],
)
def test_parameters_are_counted_whatever_the_model_says(text: str, tmp_path: Path, check: Check) -> None:
    code, out, _ = check(source(tmp_path, text))
    assert code == 1
    assert "OVER: 300,010 parameters > 200,000" in out


def test_a_branch_on_tracing_is_seen(tmp_path: Path, check: Check) -> None:
    text = """
class Shy(nn.Module):
    def __init__(self):
        super().__init__()
        self.large, self.small = Net(1000), Net(1)
    def forward(self, x):
        return self.small(x) if torch.jit.is_tracing() else self.large(x)
build = Shy
"""
    code, out, _ = check(source(tmp_path, text))
    assert code == 0
    assert "MACs 74,000 at 8 px (fvcore 74, torch 74,000)" in out
    assert "the counts of MACs differ by 100%: fvcore's is lower" in out


def test_what_it_prints_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, r"print('\x1b]0;title\x07 hello \x1b[2J')"))
    assert code == 0
    assert "| ?]0;title? hello ?[2J" in err


def test_an_error_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, r"raise RuntimeError('\x1b[31m red')"))
    assert code == 3
    assert "RuntimeError: ?[31m red" in err


def test_a_gigabyte_on_standard_output_is_dropped(tmp_path: Path, check: Check) -> None:
    code, _, err = check(source(tmp_path, "for _ in range(1024): os.write(1, b'x' * 2**20)"))
    assert code == 0
    assert len(err) < 10_000


def test_a_verdict_on_standard_output_is_not_believed(tmp_path: Path, check: Check) -> None:
    verdict = json.dumps({"verdict": {"model": "fake", "problems": []}})
    text = f"print({verdict!r}, flush=True)\nos._exit(0)"
    code, out, err = check(source(tmp_path, text))
    assert (code, out) == (3, "")
    assert "ended without an answer" in err


def test_a_verdict_on_every_descriptor_is_not_believed(tmp_path: Path, check: Check) -> None:
    verdict = json.dumps({"verdict": {"model": "fake", "problems": []}, "nonce": ""}) + "\n"
    text = f"""
for number in range(100):
    try: os.write(number, {verdict.encode()!r})
    except OSError: pass
"""
    code, out, _ = check(source(tmp_path, text))
    assert code == 0
    assert "model net.py:build (file)" in out


@pytest.fixture(params=["bubblewrap", "sandlock"])
def _each_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sandbox.works(request.param):
        pytest.skip(f"{request.param} does not work here")
    monkeypatch.setattr(sandbox, "best_sandbox", lambda: request.param)


@pytest.mark.usefixtures("_each_sandbox")
def test_there_is_no_network(tmp_path: Path, check: Check) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        address = server.getsockname()
        code, _, err = check(source(tmp_path, f"socket.create_connection({address!r}, timeout=5)"))
        assert code == 3
        assert "Error" in err
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.usefixtures("_each_sandbox")
def test_the_home_folder_is_closed(tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    (home / "secret").write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TOKEN", "secret")
    text = f"""
seen = os.environ.get("TOKEN", "")
for name in ({str(home / "secret")!r}, os.path.expanduser("~/secret"), f"/proc/{{os.getppid()}}/environ"):
    try: seen += Path(name).read_text()
    except OSError: pass
for name in ({str(home / "trace")!r}, {str(place / "trace")!r}):
    try: Path(name).write_text("trace")
    except OSError: pass
Path(os.environ["TMPDIR"], "scratch").write_text("this is allowed")
assert "secret" not in seen
"""
    assert check(source(place, text))[0] == 0
    assert [path.name for path in tmp_path.rglob("trace")] == []
    assert os.listdir(place) == ["net.py"]


@pytest.mark.usefixtures("_each_sandbox")
def test_only_the_scratch_folder_can_be_written(tmp_path: Path, check: Check) -> None:
    text = """
for folder in ("/", "/dev", "/dev/shm", "/usr", "/etc", "/proc", "/sys", sys.prefix, os.path.dirname(__file__)):
    try: Path(folder, "trace").write_text("trace")
    except OSError: continue
    raise AssertionError(folder)
Path(os.environ["TMPDIR"], "scratch").write_text("this is allowed")
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("_each_sandbox")
def test_what_is_read_only_stays_so(tmp_path: Path, check: Check) -> None:
    text = """
import ctypes
libc = ctypes.CDLL(None)
MS_REMOUNT, MS_BIND = 0x20, 0x1000
for folder in ("/", "/usr", sys.prefix, os.path.dirname(__file__)):
    assert libc.mount(None, folder.encode(), None, MS_REMOUNT | MS_BIND, None) != 0, folder
    assert libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, None) != 0, folder
"""
    code, _, err = check(source(tmp_path, text))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("_each_sandbox")
def test_shared_memory_of_others_is_closed(tmp_path: Path, check: Check) -> None:
    with NamedTemporaryFile(dir="/dev/shm") as secret:
        text = f"""
try: open({secret.name!r}).read()
except OSError: pass
else: raise AssertionError
"""
        assert check(source(tmp_path, text))[0] == 0


def test_memory_that_is_a_file_counts(tmp_path: Path, check: Check) -> None:
    text = """
hoard = os.memfd_create("hoard")
for _ in range(120): os.write(hoard, bytes(2**24))
time.sleep(10)
"""
    code, _, err = check(source(tmp_path, text), "--memory-limit", "1")
    assert code == 3
    assert "memory" in err.lower()


def test_many_files_are_ended_and_removed(tmp_path: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    text = """
os.chdir(os.environ["TMPDIR"])
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
for number in range(10**6): os.close(os.open(str(number), os.O_CREAT))
"""
    code, _, err = check(source(tmp_path, text))
    assert code == 3
    assert "20,000 files" in err
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_link_cannot_hide_what_a_file_is(tmp_path: Path, check: Check) -> None:
    path = source(tmp_path, "").partition(":")[0]
    (tmp_path / "net.safetensors").symlink_to(path)
    code, _, err = check(tmp_path / "net.safetensors")
    assert code == 2
    assert "is a link to a .py file: name that" in err


@pytest.mark.parametrize(
    "cost",
    ["training_memory=10**400", "macs_torch=9 * 10**4200", "stages=[{}] * 10000", "dead_params=['x' * 1990] * 100"],
)
def test_a_forged_verdict_does_not_break_the_parent(cost: str, tmp_path: Path, check: Check) -> None:
    text = f"""
frame = sys._getframe()
while frame and not callable(frame.f_locals.get("say")): frame = frame.f_back
frame.f_locals["say"]({{"progress": {{"task": "x", "done": 1, "total": 10**18, "note": ""}}}})
frame.f_locals["say"]({{"verdict": {{"model": "m", "benchmark": "digits", "image_size": 8, "batch_size": 1,
    "budget": {{"max_params": 1, "max_hours": 1.0}}, "cost": dict(params=1, trainable_params=1, {cost})}}}})
time.sleep({SHORT})
"""
    code, out, err = check(source(tmp_path, text))
    assert code in (0, 3)
    assert len(out + err) < 2**18


@pytest.mark.usefixtures("_each_sandbox")
def test_no_socket_is_answered(tmp_path: Path, check: Check) -> None:
    text = """
for path in filter(Path.is_socket, Path("/tmp").rglob("agent")):  # an environment in /tmp has folders of that name
    listener = socket.socket(socket.AF_UNIX)
    listener.connect(str(path))
    raise AssertionError(path)
"""
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as agent:
        agent.bind(f"{folder}/agent")
        agent.listen()
        path = Path(gettempdir()) / f"net_{os.getpid()}.py"
        path.write_text(NET + text)
        try:
            code, _, err = check(f"{path}:build")
            assert (code, err) == (0, "")
        finally:
            path.unlink()


@pytest.mark.usefixtures("_each_sandbox")
def test_nobody_else_is_signalled(tmp_path: Path, check: Check) -> None:
    text = f"""
for number in ({os.getpid()}, os.getppid()):
    try: os.kill(number, 0)
    except OSError: continue
    assert number == os.getppid() == 1 or number != {os.getpid()}
"""
    assert check(source(tmp_path, text))[0] == 0


@pytest.mark.usefixtures("_each_sandbox")
def test_each_sandbox_ends_what_was_left_behind(tmp_path: Path, check: Check) -> None:
    test_a_daemon_does_not_outlive_the_verdict(tmp_path, check)


@pytest.mark.parametrize("kind", ["bubblewrap", "sandlock", "none"])
def test_a_killed_check_leaves_nothing(kind: sandbox.SandboxKind, tmp_path: Path, python: Callable[..., Any]) -> None:
    if not sandbox.works(kind):
        pytest.skip(f"{kind} does not work here")
    text = "Path(os.environ['TMPDIR'], 'started').touch()\nwhile True: pass"
    program = f"""
import sys
from benchmarks.cli import budget_check as cli
from benchmarks.sandbox import sandbox
sandbox.best_sandbox = lambda: {kind!r}
sys.exit(cli.main(sys.argv[1:]))
"""
    options = ("--benchmark", "digits", "--device", "cpu", "--no-timing", "--trust")
    check = python(program, source(tmp_path, text), *options)
    started = psutil.Process(check.pid)
    assert wait_until(lambda: "TMPDIR" in started.environ(), SHORT)  # until it has become a Python
    temporary = Path(started.environ()["TMPDIR"])
    assert wait_until(lambda: any(temporary.glob("budget-check-*/started")), SECONDS)
    assert ours() != []
    check.kill()
    assert wait_until(lambda: ours() == [], SHORT)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("options", [(), ("--allow-code",)])
@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.bin", "net.pt2"])
def test_a_pickle_runs_nothing_here(name: str, options: tuple[str, ...], tmp_path: Path, check: Check) -> None:
    canary = tmp_path / "canary"
    torch.save({"weight": Payload(canary)}, tmp_path / name)
    code, out, err = check(tmp_path / name, *options)
    assert out == ""
    assert (code, "--allow-code" in err) == ((3, False) if options else (4, True))
    assert not canary.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_raw_pickle_is_refused(legacy: bool, tmp_path: Path, check: Check) -> None:
    canary = tmp_path / "canary"
    if legacy:
        torch.save({"weight": Payload(canary)}, tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    else:
        (tmp_path / "net.pt").write_bytes(pickle.dumps(Payload(canary)))
    assert check(tmp_path / "net.pt")[0] in (2, 4)
    assert not canary.exists()


def test_an_exported_program_with_a_payload_is_refused(tmp_path: Path, check: Check) -> None:
    canary = tmp_path / "canary"
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("net/archive_format", "pt2")
        archive.writestr("net/models/model.json", "{}")
        archive.writestr("net/data/weights/weights.pt", pickle.dumps(Payload(canary)))
    code, _, err = check(tmp_path / "net.pt2")
    assert code == 4
    assert "exported program" in err
    assert not canary.exists()


class Reader(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/passwd", size=10, dtype=torch.uint8).float() + x.flatten(1)[:, :10]


def test_torchscript_is_refused(tmp_path: Path, check: Check) -> None:
    torch.jit.save(torch.jit.script(Reader()), tmp_path / "net.pt")
    code, _, err = check(tmp_path / "net.pt")
    assert code == 4
    assert "TorchScript" in err
    assert check(tmp_path / "net.pt", "--allow-code")[0] == 3  # the sandbox has no such file


def test_a_pickled_module_is_refused(tmp_path: Path, check: Check) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), tmp_path / "net.pt")
    assert check(tmp_path / "net.pt")[0] == 4
    code, out, _ = check(tmp_path / "net.pt", "--allow-code")
    assert code == 0
    assert "model net.pt (pickled Sequential) parameters 650" in out


def test_a_deflate_bomb_is_refused(tmp_path: Path, check: Check) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(10**8))
    code, _, err = check(tmp_path / "net.pt")
    assert code == 4
    assert "compressed archive" in err


def test_a_tensor_larger_than_its_file_is_counted_as_what_it_is(tmp_path: Path, check: Check) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "net.pt")
    code, out, _ = check(tmp_path / "net.pt")
    assert code == 1
    assert "OVER: 1,000,000,000,000 parameters > 200,000" in out


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 200_000 * 6) + b'{"a": ' * 200_000,
        struct.pack("<Q", 2) + b"{}" + b"x" * 100,
        b"",
    ],
    ids=["huge", "deep list", "deep object", "loose bytes", "empty"],
)
def test_a_false_safetensors_header_is_bad_input(content: bytes, tmp_path: Path, check: Check) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    code, _, err = check(path)
    assert code == 2
    assert "net.safetensors is not a safetensors file" in err


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "link"])
def test_onnx_weights_outside_the_folder_are_refused(location: str, tmp_path: Path, check: Check) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(2560))
    (folder / "link").symlink_to(tmp_path / "secret")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 10], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [images], [logits], [weight])), folder / "net.onnx")
    code, _, err = check(folder / "net.onnx")
    assert code == 4
    assert f"its weights point outside its folder: {location}" in err


def test_onnx_sizes_below_zero_are_bad_input(tmp_path: Path, check: Check) -> None:
    weights = [TensorProto(name=n, data_type=TensorProto.FLOAT, dims=[size]) for n, size in (("a", 9), ("b", -9))]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])
    onnx.save(helper.make_model(helper.make_graph([], "g", [images], [], weights)), tmp_path / "net.onnx")
    code, _, err = check(tmp_path / "net.onnx")
    assert code == 2
    assert "b has a size below zero" in err


def test_a_path_is_shown_without_control_characters(tmp_path: Path, check: Check) -> None:
    path = tmp_path / "a\x1b[31m\r\n::error::.py"
    path.write_text("x =")
    assert check(path)[0] == 3
    assert check(tmp_path / "no\x1b.py")[0] == 2


def test_a_source_that_is_no_utf8_cannot_be_judged(tmp_path: Path, check: Check) -> None:
    (tmp_path / "net.py").write_bytes(b"name = '\xff\xfe'")
    code, _, err = check(tmp_path / "net.py")
    assert code == 3
    assert "SyntaxError" in err


def test_what_is_no_file_is_bad_input(tmp_path: Path, check: Check) -> None:
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "net.txt").write_text(NET)
    for name, expected in (
        ("folder.py", "is not a file"),
        ("pipe.py", "is not a file"),
        ("net.txt", "is no model file: valid are .py, .safetensors"),
    ):
        code, _, err = check(tmp_path / name)
        assert code == 2
        assert expected in err
