import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies.training_loops.timm_script import timm_script
from benchmarks.studies.training_loops.workload import Workload

TRAIN = """
import argparse, json, os, sys

import timm
from timm.data import create_dataset

parser = argparse.ArgumentParser()
for name in ("data-dir", "model", "num-classes", "batch-size", "epochs", "opt", "lr", "device", "workers", "hflip"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--model-kwargs")
parser.add_argument("--input-size", nargs=3, type=int)
options, _ = parser.parse_known_args()
spec = options.model_kwargs.removeprefix("spec='").removesuffix("'")
model = timm.create_model(options.model, spec=spec, num_classes=int(options.num_classes))
dataset = create_dataset("a name", root=options.data_dir, split="train", is_training=True)
image, label = dataset[8]
results = {
    "options": vars(options),
    "spec": str(type(model).__name__),
    "images": len(dataset),
    "sum": sum(image.tobytes()),
    "size": image.size,
    "label": label,
    "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
}
with open(__file__ + ".json", "w") as file:
    json.dump(results, file)
print("Train: 0 [   1/2 (100%)]  Loss: 4.6 (4.6)  Time: 9.000s, 6.00/s  (9.000s, 6.00/s)  LR: 1", file=sys.stderr)
print("Train: 1 [   0/2 (  0%)]  Loss: 4.6 (4.6)  Time: 7.000s, 6.00/s  (7.000s, 6.00/s)  LR: 1", file=sys.stderr)
print("Train: 1 [   1/2 (100%)]  Loss: 4.6 (4.6)  Time: 0.100s, 640.00/s  (0.250s, 256.00/s)  LR: 1", file=sys.stderr)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "train.py"


@pytest.mark.slow
def test_script_trains_the_workloads_model_on_its_images(
    script: Path, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # our setting, not timm's
    script.write_text(TRAIN)
    assert timm_script(workload, script)() == 0.25 * workload.steps
    results = json.loads(script.with_name("train.py.json").read_text())
    options = results.pop("options")
    assert not Path(options.pop("data_dir")).exists()
    assert options == {
        "model": "cifar_net",
        "model_kwargs": "spec='resnet8+width=0.25'",
        "num_classes": "10",
        "batch_size": "4",
        "epochs": "2",
        "opt": "sgd",
        "lr": "0.1",
        "device": "cpu",
        "workers": "0",
        "hflip": "0.5",
        "input_size": [3, 16, 16],
    }
    assert results == {
        "spec": "ResidualNet",
        "images": 9,
        "sum": int(workload.images[8].sum()),
        "size": [16, 16],
        "label": int(workload.labels[8]),
        "cublas": None,
    }


@pytest.mark.parametrize(
    ("returncode", "stderr", "expected"), [(1, "no such option", "no such option"), (0, "", "train.py failed")]
)
def test_failed_script_raises_an_error_with_its_last_output(
    returncode: int, stderr: str, expected: str, script: Path, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = subprocess.CompletedProcess([], returncode, stdout="nothing timed", stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: result)
    with pytest.raises(RuntimeError, match=expected):
        timm_script(replace(workload, workers=2), script)()
