import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.definition.recipe import Recipe
from benchmarks.execution.environment import WORKER_ENVIRONMENT
from benchmarks.studies import step_settings
from benchmarks.studies.step_settings import Setting, applied, count_macs, measure, settings_of
from benchmarks.training.compile_mode import COMPILED_MODES
from benchmarks.training.determinism import make_deterministic

SPEC = "resnet8+width=0.25"
FIGURES = {"milliseconds": 1.0}


@pytest.fixture(autouse=True)
def _restore_torch_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in WORKER_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    yield
    make_deterministic()
    torch.use_deterministic_algorithms(False)


def printed_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> list[dict[str, Any]]:
    monkeypatch.setattr("sys.argv", ["step_settings", SPEC, "--device", "cpu", *map(str, arguments)])
    step_settings.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_all_compile_modes_are_timed() -> None:
    for device, modes in COMPILED_MODES.items():
        settings = settings_of(device)
        assert settings[0] == Setting("eager")
        assert {setting.compile_mode for setting in settings} == {"eager", *modes}
        assert len({setting.name for setting in settings}) == len(settings)


def test_setting_is_applied_and_training_restored() -> None:
    with applied(Setting("fast", deterministic=False, cudnn_benchmark=True)):
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


def test_figures_of_a_setting_are_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_settings, "MIN_WINDOW_SECONDS", 1e-6)
    figures = measure(SPEC, Recipe(batch_size=4), Setting("eager"), torch.device("cpu"))
    assert figures["fastest"] <= figures["milliseconds"] <= figures["slowest"]
    assert figures["images_per_second"] == pytest.approx(4000 / figures["milliseconds"])


def test_macs_are_those_of_one_image() -> None:
    assert count_macs("resnet8") == 12_507_392


def test_finished_settings_are_skipped_and_failed_ones_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_once(spec: str, recipe: Recipe, setting: Setting, device: torch.device) -> dict[str, Any]:
        if setting.name == "compile" and not failed:
            failed.append(setting.name)
            raise RuntimeError("no compiler\nhere")
        return FIGURES

    failed: list[str] = []
    monkeypatch.setattr(step_settings, "measure", fail_once)
    file = tmp_path / "lines.jsonl"
    first = printed_lines(monkeypatch, capsys, "--out", file)
    assert first[-1]["error"] == "RuntimeError: no compiler"
    assert [line["setting"] for line in printed_lines(monkeypatch, capsys, "--out", file)] == ["compile"]
    assert printed_lines(monkeypatch, capsys, "--out", file) == []
    assert len(file.read_text().splitlines()) == len(first) + 1


def test_other_batch_sizes_are_timed_and_lines_that_were_cut_off_are_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_settings, "measure", lambda *_: FIGURES)
    file, only = tmp_path / "lines.jsonl", ("--only", "eager")
    (line,) = printed_lines(monkeypatch, capsys, "--out", file, *only)
    assert printed_lines(monkeypatch, capsys, "--out", file, *only, "--batch-size", 8) == [line | {"batch_size": 8}]
    file.write_text(file.read_text()[:-20])
    assert len(printed_lines(monkeypatch, capsys, "--out", file, *only, "--batch-size", 8)) == 1
    assert printed_lines(monkeypatch, capsys, "--out", file, *only, "--batch-size", 8) == []


def test_heuristic_mode_b_is_part_of_the_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_settings, "measure", lambda *_: FIGURES)
    monkeypatch.setenv(step_settings.HEURISTIC_MODE_B, "1")
    (line,) = printed_lines(monkeypatch, capsys, "--only", "eager")
    assert line["setting"].startswith("eager")
    assert "mode B" in line["setting"]
