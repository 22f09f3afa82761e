"""Tests of hostile pickles in protocol 2, which is the only one that torch's reader of tensors executes.

Each is the content of a zip archive like those that torch.save writes.
"""

import zipfile
from pathlib import Path

import pytest

from benchmarks.budget.outcome import CheckedModel
from benchmarks.budget.request import CheckRequest
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import silent
from benchmarks.sandbox import kinds
from benchmarks.sandbox.file_check import FilePolicy
from benchmarks.sandbox.files.weights import read_pickle
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.many import check_models

NONE, TRUE, MARK, TUPLE, REDUCE, BUILD, STOP = b"N", b"\x88", b"(", b"t", b"R", b"b", b"."  # opcodes
EMPTY_DICT, SET_ITEM, PERSISTENT_ID = b"}", b"s", b"Q"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED_DICT = b"ccollections\nOrderedDict\n"


def name_of(path: str) -> bytes:
    """Refer to a class or function, such as "os.mkdir"."""
    module, _, name = path.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def text(content: str) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content.encode()


def number(value: int) -> bytes:
    content = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def items(*parts: bytes) -> bytes:
    return MARK + b"".join(parts) + TUPLE


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + items(*arguments) + REDUCE


def storage(key: str = "0", size: int = 1, kind: str = "torch.FloatStorage") -> bytes:
    return items(text("storage"), name_of(kind), text(key), text("cpu"), number(size)) + PERSISTENT_ID


def tensor(content: bytes, size: int = 1, stride: int = 1, offset: int = 0) -> bytes:
    hooks = call(ORDERED_DICT)
    return call(REBUILD, content, number(offset), items(number(size)), items(number(stride)), b"\x89", hooks)


def state_dict(value: bytes) -> bytes:
    """Return the pickle of {"weight": value}."""
    return b"\x80\x02" + EMPTY_DICT + text("weight") + value + SET_ITEM + STOP


def attacks(canary: str) -> dict[str, bytes]:
    """Return values that create the folder `canary` if code runs."""
    make = text(f"__import__('os').mkdir({canary!r})")
    import_os = call(name_of("builtins.__import__"), text("os"))
    return {
        "system": call(name_of("os.system"), text(f"mkdir {canary}")),
        "posix": call(name_of("posix.mkdir"), text(canary)),
        "eval": call(name_of("builtins.eval"), make),
        "python 2": call(name_of("__builtin__.eval"), make),
        "getattr": call(call(name_of("builtins.getattr"), import_os, text("mkdir")), text(canary)),
        "load": call(name_of("torch.load"), text(canary), NONE, NONE),
        "hub": call(name_of("torch.hub.set_dir"), text(canary)),
        "extension": call(name_of("torch.utils.cpp_extension.load"), text(canary), text("x.cpp")),
        "save": call(name_of("torch.save"), number(1), text(canary)),
        "type": call(name_of("torch._utils._rebuild_device_tensor_from_numpy"), name_of("os.system"), text(canary)),
        "set state": call(name_of("torch.nn.Linear"), number(1), number(1)) + EMPTY_DICT + BUILD,
        "dotted": call(name_of("torch.serialization.os.mkdir"), text(canary)),
        "partial": call(name_of("functools.partial"), name_of("os.mkdir"), text(canary)),
        "hooks": call(
            REBUILD, storage(), number(0), items(number(1)), items(number(1)), TRUE, call(name_of("os.mkdir"))
        ),
        "storage class": storage(kind="os.system"),
        "build": call(ORDERED_DICT) + EMPTY_DICT + text("items") + name_of("os.getcwd") + SET_ITEM + BUILD,
    }


BOMBS = {  # these run no code, but may end the process that opens them
    "key outside": tensor(storage("../../../etc/passwd", 100), 100),
    "persistent text": text("storage") + PERSISTENT_ID,
    "persistent nothing": items() + PERSISTENT_ID,
    "no storage": tensor(text("storage")),
    "negative size": tensor(storage(), -5),
    "wide number": call(REBUILD, storage(), number(10**30), items(number(1)), items(number(1)), TRUE, NONE),
    "large class": call(name_of("torch.FloatStorage"), number(10**14)),
    "large bytes": call(name_of("builtins.bytearray"), number(10**14)),
    "deep": items() * 1 + b"\x85" * 200_000,
    "marks": MARK * 10**6,
    "memo": b"r\xff\xff\xff\x7f",
    "missing memo": b"j\xff\xff\xff\x7f",
    "cut text": b"X\xff\xff\xff\xff",
    "stack": REDUCE * 10,
    "cycle": EMPTY_DICT + b"q\x01" + text("state_dict") + b"h\x01" + SET_ITEM,
}
OUTSIDE = {  # torch does not compare the view of a tensor with the size of its storage on the meta device
    "negative stride": tensor(storage(size=100), 10, -1, 50),
    "outside storage": tensor(storage(), 10**6),
    "offset": tensor(storage(), 1, 1, 2**62),
}
VIEWS = {"view": tensor(storage(), 10**15, 0), "storage": tensor(storage(size=10**15), 10**15)}


def write(path: Path, value: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", state_dict(value))
        file.writestr("net/byteorder", "little")
        file.writestr("net/data/0", bytes(4))
        file.writestr("net/version", "3\n")
    return path


def check(folder: Path, values: dict[str, bytes]) -> dict[str, CheckedModel]:
    """Check one file per value in the same sandbox."""
    paths = [write(folder / f"{name}.pt", value) for name, value in values.items()]
    requests = [CheckRequest(str(path), BENCHMARKS["digits"], "cpu") for path in paths]
    return dict(zip(values, check_models(requests, FilePolicy(SandboxLimits(120)).share(1), silent), strict=True))


def test_plain_pickle_is_read(tmp_path: Path) -> None:
    """Test that the pickles of this module are valid but for their content."""
    content = read_pickle(write(tmp_path / "plain.pt", tensor(storage())), allow_code=False)
    assert getattr(content, "shapes", None) == {"weight": (1,)}


@pytest.mark.parametrize("name", attacks(""))
def test_no_code_runs_even_without_a_sandbox(name: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = write(tmp_path / "net.pt", attacks(str(canary))[name])
    with pytest.raises(Exception, match=r"^its pickle contains more than tensors|no named tensors"):
        read_pickle(path, allow_code=False)
    assert not canary.exists()


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_each_hostile_pickle_ends_in_one_line(tmp_path: Path) -> None:
    for name, outcome in check(tmp_path, BOMBS | OUTSIDE).items():
        assert (outcome.verdict is None) == (name in BOMBS), name
        assert outcome.failure != "failed" or "out of memory" in outcome.reason, (name, outcome.reason)
        assert len(outcome.conclusion.splitlines()) == 1, name


@pytest.mark.slow
@pytest.mark.skipif(kinds.best_sandbox() == "none", reason="needs bubblewrap or sandlock")
def test_tensors_of_any_size_take_no_memory(tmp_path: Path) -> None:
    outcomes = check(tmp_path, VIEWS)
    assert [outcome.verdict and outcome.verdict.cost.params for outcome in outcomes.values()] == [10**15, 10**15]
