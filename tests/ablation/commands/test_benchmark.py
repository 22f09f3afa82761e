from pathlib import Path
from typing import Any

import pytest
import yaml

from ablation.cli import main
from benchmarks.definition.registry import get_benchmark

ARGS: dict[str, Any] = {
    "model": "resnet18",
    "batch_size": 16,
    "epochs": 10,
    "opt": "adamw",
    "sched": "cosine",
    "lr": 0.001,
    "num_classes": 10,
    "img_size": 32,
    "dataset": "torch/cifar10",
    "drop_path": 0.1,
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "args.yaml"
    path.write_text(yaml.safe_dump({**ARGS, **changes}))
    return path


@pytest.mark.slow
def test_imported_benchmark_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, out = write(tmp_path), tmp_path / "mine.toml"
    assert main(["benchmark", "import", str(args), "--world-size", "2"]) == 0
    printed = capsys.readouterr()
    assert main(["benchmark", "import", str(args), "--world-size", "2", "--out", str(out)]) == 0
    assert out.read_text() == printed.out
    benchmark = get_benchmark(str(out))
    assert (benchmark.name, benchmark.baseline, benchmark.data.source) == ("timm_resnet18", "timm/resnet18", "cifar10")
    assert (benchmark.recipe.batch_size, benchmark.recipe.optimizer) == (32, "adamw")
    assert "not imported: drop_path = 0.1" in printed.err
    assert "# not imported: drop_path = 0.1" in printed.out
    assert "Traceback" not in printed.err
    assert main(["benchmark", "import", str(args), "--out", str(out)]) == 2  # the file may have been edited
    assert main(["benchmark", "import", str(args), "--name", "digits"]) == 2
    assert "built-in" in capsys.readouterr().err


def test_other_files_are_rejected_before_torch_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.yaml").write_text("jobs: {}")
    for name, expected in (("other.yaml", "not the args.yaml of a run"), ("missing.yaml", "No such file")):
        assert main(["benchmark", "import", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_invalid_optimizer_is_explained_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "import", str(write(tmp_path, opt="adamz"))]) == 2
    error = capsys.readouterr().err
    assert "unknown optimizer 'adamz'" in error
    assert error.count("\n") == 1
