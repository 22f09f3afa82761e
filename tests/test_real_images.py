"""Test training end to end on real CIFAR-100 images.

The environment variable CIFAR100_DIR must name a folder that contains train/<class>/ and test/<class>/.
"""

import json
import os
from pathlib import Path

import pytest

from ablation.cli import main

CIFAR100 = os.environ.get("CIFAR100_DIR")

BENCHMARK = """
name = "cifar100_tiny"
baseline = "resnet8"
[data]
source = "cifar100"
num_classes = 100
train_per_class = 100
test_per_class = 20
[recipe]
epochs = 3
batch_size = 128
lr = 0.2
warmup_epochs = 1
"""


@pytest.mark.slow
@pytest.mark.skipif(CIFAR100 is None, reason="CIFAR100_DIR is not set")
def test_small_model_learns_real_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(BENCHMARK)
    arguments = ["--benchmark", str(tmp_path / "tiny.toml"), "--data", str(CIFAR100), "--out", str(tmp_path / "out")]
    assert main(["run", "baseline", "--seeds", "1", "--json", *arguments]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["top1_mean"] > 5  # chance level is 1%
    record = json.loads((tmp_path / "out" / "records.jsonl").read_text())
    assert record["images_seen"] == 3 * 9_984  # 78 complete batches of 128 in each epoch
    assert len(record["per_class"]) == 100
    assert record["per_class"].keys() >= {"apple", "maple_tree", "worm"}
