"""A real Ray cluster in processes: a head without CPUs, and two nodes with a made-up GPU each."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.cli import main
from arch.errors import InputError
from benchmarks.execution import local
from benchmarks.execution.progress import Report, silent
from benchmarks.execution.ray_cluster import RayExecutor

pytest.importorskip("ray")

ROOT = Path(__file__).parents[3]
SPEC = "baseline+se+drop_path=0.2+avg_down"
SEEDS = 6
UNITS = 4 * SEEDS
COMMAND = [sys.executable, "-c", "from ablation.cli import main; raise SystemExit(main())", "run", SPEC]
LONG = 240  # seconds that a slow machine may take for what is waited for

TINY = """
name = "tiny"
baseline = "resnet8+width=0.25"
[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 20
test_per_class = 10
[recipe]
epochs = 2
batch_size = 50
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0
[budget]
max_params = 200_000
max_hours = 0.5
"""

HOST = """
import ray, sys
from ray.cluster_utils import RayExecutor

cluster = RayExecutor(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=2, num_gpus=1) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill a node\\n":
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
        print("killed", flush=True)
    else:
        break
cluster.shutdown()
print("down", flush=True)
"""


def visible_devices(report: Report) -> str | None:
    """In a child, which imports this file as `test_ray_cluster`."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture
def host(python: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The process that holds the cluster; its first line was the address, which is set for what the test starts."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # whether or not there is one in ~/.ray
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as Ray sets it for a task of one CPU; it decides the last bits
    process = python(HOST)
    address = next(line for line in process.stdout if line[0].isdigit()).strip()
    monkeypatch.setenv("RAY_ADDRESS", address)
    yield process
    process.stdin.write("end\n")
    process.stdin.flush()
    for line in process.stdout:
        if line == "down\n":
            break


def lines(out: Path) -> list[str]:
    return (out / "records.jsonl").read_text().splitlines() if (out / "records.jsonl").exists() else []


def wait_for_lines(out: Path, count: int, driver: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + LONG
    while len(lines(out)) < count:
        assert driver.poll() is None, "the driver ended early"
        assert time.monotonic() < end, f"{len(lines(out))} records of {count}"
        time.sleep(0.05)


def numbers(out: Path) -> dict[tuple[str, int], Any]:
    """What must not depend on where a run was made."""
    found = {}
    for record in map(json.loads, lines(out)):
        curve = [{name: value for name, value in line.items() if "seconds" not in name} for line in record["curve"]]
        found[record["spec"], record["seed"]] = (record["benchmark_id"], curve, record["per_class"])
    return found


@pytest.mark.slow
def test_a_lost_node_and_a_lost_driver_cost_only_what_they_were_at(host: Any, tmp_path: Path) -> None:
    benchmark = tmp_path / "tiny.toml"
    benchmark.write_text(TINY)
    shared = ["--benchmark", str(benchmark), "--seeds", str(SEEDS), "--device", "cpu"]
    there, here = tmp_path / "there", tmp_path / "here"
    on_ray = [*COMMAND, *shared, "--out", str(there), "--executor", "ray", "--ray-gpus", "1"]

    driver = subprocess.Popen(on_ray, cwd=ROOT)
    wait_for_lines(there, 3, driver)
    host.stdin.write("kill a node\n")
    host.stdin.flush()
    assert host.stdout.readline() == "killed\n"
    wait_for_lines(there, len(lines(there)) + 3, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = lines(there)
    assert 6 <= len(kept) < UNITS

    assert subprocess.run(on_ray, cwd=ROOT, timeout=LONG).returncode == 0
    assert lines(there)[: len(kept)] == kept
    assert len(lines(there)) == UNITS == len(numbers(there))
    assert list((there / "checkpoints").iterdir()) == []
    assert subprocess.run([*COMMAND, *shared, "--out", str(here)], cwd=ROOT, timeout=LONG).returncode == 0
    assert numbers(there) == numbers(here)


def test_without_a_cluster_it_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):  # which the command sets for itself
        monkeypatch.setenv(variable, os.environ.get(variable, "0" if "USAGE" in variable else "token"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["run", "baseline", "--out", str(tmp_path / "out"), "--executor", "ray"]) == 2
    assert "ablate: --executor ray can join no cluster at 127.0.0.1:1" in capsys.readouterr().err


def test_without_ray_it_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "baseline", "--out", str(tmp_path / "out"), "--executor", "ray"]) == 2
    assert "pip install 'timm-ablate[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "gpus", "expected"), [("auto", 2, "cuda"), ("auto", 0, "cpu"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda")]
)
def test_the_device_is_what_the_cluster_has(
    name: str, gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, **({"GPU": gpus} if gpus else {})})
    node = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    cluster = RayExecutor()
    assert cluster.choose_device(name, world_size=2) == expected
    assert cluster.gpus == (2 if expected == "cuda" else 0)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


def test_the_gpus_of_a_task_are_those_of_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    assert (
        local.call("benchmarks.execution.ray_cluster:on_devices", silent, "5,6", "test_ray_cluster:visible_devices", ())
        == "5,6"
    )


@pytest.mark.parametrize(("gpus", "cpus"), [(4, 1), (1, 8)])
def test_what_no_node_has_is_refused_before_it_is_waited_for(
    gpus: float, cpus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 4.0})
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}] * 2
    monkeypatch.setattr("ray.nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}])
    with pytest.raises(InputError, match=f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs"):
        RayExecutor(gpus, cpus).choose_device("auto", world_size=1)
