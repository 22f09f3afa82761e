import subprocess
import sys
from pathlib import Path

import pytest

import ablation
from ablation.runner import OverBudget
from arch.errors import InputError

SCRIPT = """
import ablation

study = ablation.run("baseline+se", benchmark="tiny.toml", seeds=2, device="cpu")
print(study.frame["n"].tolist(), repr(study))
"""


@pytest.fixture
def folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which contains tiny.toml."""
    monkeypatch.chdir(tiny.parent)
    return tiny.parent


@pytest.mark.slow
def test_script_without_a_main_guard_trains_and_reads(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    finished = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "[2, 2] <Study of baseline+se under tiny " in finished.stdout
    study = ablation.read(out=folder / "runs")
    assert study.frame["step"].tolist() == ["baseline (resnet8)", "+se"]
    assert "<table" in study._repr_html_()
    assert "| +se " in str(study)
    page = study.report(folder / "page.pdf", title="My title")
    assert page.read_bytes().startswith(b"%PDF")
    page = study.report(folder / "page.html", title="My title")
    assert "<title>My title</title>" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_row_over_the_budget_is_not_trained(folder: Path) -> None:
    with pytest.raises(OverBudget, match="parameters"):
        ablation.run("baseline+width=16", benchmark="tiny.toml", seeds=1, device="cpu")
    assert not (folder / "runs" / "records.jsonl").read_bytes()


def test_invalid_arguments_raise_input_errors(folder: Path) -> None:
    with pytest.raises(InputError, match="unknown part 'sse'"):
        ablation.run("baseline+sse", benchmark="tiny.toml")
    with pytest.raises(InputError, match="rtx3080"):
        ablation.run("baseline+se", benchmark="tiny.toml", device_profile="rtx3080")
    with pytest.raises(InputError, match="no records in"):
        ablation.read(out=folder)
