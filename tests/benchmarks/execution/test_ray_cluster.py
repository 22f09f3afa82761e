"""Tests on a real Ray cluster of local processes: a head without CPUs and two nodes, each with one fake GPU."""

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
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import silent
from benchmarks.execution.ray_cluster import RayExecutor

pytest.importorskip("ray")

ROOT = Path(__file__).parents[3]
NUM_RUNS = 7
PATIENCE = 240  # seconds; generous, because the machine may be busy

TINY = """
name = "tiny"
baseline = "resnet8+width=0.25+drop_path=0.2"
[data]
source = "digits"
num_classes = 10
image_size = 8
in_chans = 1
train_per_class = 8
test_per_class = 5
[recipe]
epochs = 2
batch_size = 32
lr = 0.05
warmup_epochs = 1
crop_padding = 1
flip = 0.0
[budget]
max_params = 200_000
max_hours = 0.5
"""

CLUSTER = """
import ray, sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
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


PLUGIN = """
from torch import nn

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x):
        return self.norm(x)
"""


@pytest.fixture
def cluster(python: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield the process that runs the cluster, and set its address for processes that the test starts."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # overrides any token in ~/.ray
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # Ray's value for one CPU; affects rounding
    process = python(CLUSTER)
    address = next(line for line in process.stdout if line[0].isdigit()).strip()
    monkeypatch.setenv("RAY_ADDRESS", address)
    yield process
    process.stdin.write("end\n")
    process.stdin.flush()
    for line in process.stdout:
        if line == "down\n":
            break


@pytest.fixture
def folder_with_traps(tmp_path: Path) -> Path:
    """A current folder whose files hide modules if they are imported: Ray adds it to the import path of its tasks."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in ("arch", "benchmarks", "random", "torch"):
        (folder / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')")
    return folder


def records(out: Path) -> list[str]:
    file = out / "records.jsonl"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_records(out: Path, count: int, driver: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE
    while len(records(out)) < count:
        assert driver.poll() is None, "the driver ended early"
        assert time.monotonic() < end, f"{len(records(out))} records of {count}"
        time.sleep(0.02)


def numbers(out: Path) -> dict[tuple[str, int], Any]:
    """Return the numbers that must not depend on where a run was executed."""
    results = {}
    for record in map(json.loads, records(out)):
        curve = [{name: value for name, value in line.items() if "seconds" not in name} for line in record["curve"]]
        results[record["spec"], record["seed"]] = (record["benchmark_id"], curve, record["per_class"])
    return results


@pytest.mark.slow
def test_a_lost_node_and_a_killed_driver_lose_no_record_and_change_no_number_of_a_plugin(
    cluster: Any, folder_with_traps: Path, tmp_path: Path
) -> None:
    benchmark = tmp_path / "tiny.toml"
    benchmark.write_text(TINY)
    ray_out, local_out = tmp_path / "ray", tmp_path / "local"
    plugin = folder_with_traps / "gate.py"
    plugin.write_text(PLUGIN)
    options = [
        "run",
        f"compare:baseline+{plugin}:Gate",
        "--benchmark",
        str(benchmark),
        "--seeds",
        str(NUM_RUNS),
        "--device",
        "cpu",
    ]
    command = [sys.executable, "-P", "-c", "import timm_ablate; raise SystemExit(timm_ablate.ablate())", *options]
    on_ray = [*command, "--out", str(ray_out), "--executor", "ray", "--ray-gpus", "1"]

    local = subprocess.Popen([*command, "--out", str(local_out)], cwd=ROOT)
    driver = subprocess.Popen(on_ray, cwd=folder_with_traps)
    wait_for_records(ray_out, 2, driver)
    cluster.stdin.write("kill a node\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    wait_for_records(ray_out, len(records(ray_out)) + 1, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = records(ray_out)
    assert 3 <= len(kept) < NUM_RUNS

    assert subprocess.run(on_ray, cwd=folder_with_traps, timeout=PATIENCE).returncode == 0
    assert records(ray_out)[: len(kept)] == kept
    assert len(records(ray_out)) == NUM_RUNS == len(numbers(ray_out))
    assert list((ray_out / "checkpoints").iterdir()) == []
    assert local.wait(PATIENCE) == 0
    assert numbers(ray_out) == numbers(local_out)


def test_an_unreachable_cluster_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED"):  # set by the command, and restored after the test
        monkeypatch.setenv(variable, os.environ.get(variable, "0" if "USAGE" in variable else "token"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["run", "baseline", "--out", str(tmp_path / "out"), "--executor", "ray"]) == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_missing_ray_package_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "baseline", "--out", str(tmp_path / "out"), "--executor", "ray"]) == 2
    assert "timm-ablate[ray]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "gpus", "expected"), [("auto", 2, "cuda"), ("auto", 0, "cpu"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda")]
)
def test_the_device_follows_from_the_clusters_resources(
    name: str, gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, **({"GPU": gpus} if gpus else {})})
    node = {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    cluster = RayExecutor()
    assert cluster.choose_device(name, world_size=2) == expected
    assert cluster.gpus == (2 if expected == "cuda" else 0)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


def test_a_worker_uses_the_gpus_of_its_task() -> None:
    function = "benchmarks.execution.ray_cluster:call_on_devices"
    assert LocalExecutor().call(function, silent, "5,6", (), "worker_functions:visible_devices", ()) == "5,6"


@pytest.mark.parametrize(("gpus", "cpus"), [(4, 1), (1, 8)])
def test_resources_that_no_node_has_are_rejected(gpus: float, cpus: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 4.0})
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}] * 2
    monkeypatch.setattr("ray.nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}])
    with pytest.raises(InputError, match=f"no node of the Ray cluster has {cpus:g} CPUs and {gpus:g} GPUs"):
        RayExecutor(gpus, cpus).choose_device("auto", world_size=1)
