from pathlib import Path

import pytest

from ablation.cli import main
from benchmarks.definition.registry import BENCHMARKS, get_benchmark


def test_printed_benchmark_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "digits"]) == 0
    file = tmp_path / "mine.toml"
    file.write_text(capsys.readouterr().out)
    benchmark = get_benchmark(str(file))
    assert benchmark.name == "my_digits"
    assert benchmark.recipe == BENCHMARKS["digits"].recipe
    assert main(["show", str(file)]) == 0
    assert capsys.readouterr().out == file.read_text()


def test_unknown_benchmark_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "digit"]) == 2
    assert "did you mean 'digits'?" in capsys.readouterr().err
