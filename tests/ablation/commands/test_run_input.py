"""Test that `ablate run` rejects invalid input with a one-line error message."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ablation.cli import main
from ablation.commands.options import RunOptions
from benchmarks.definition.benchmark import Budget
from benchmarks.definition.registry import BENCHMARKS

ErrorLine = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["baseline+sse"], "unknown part 'sse' at character 10 of 'baseline+sse': did you mean 'se'?"),
        (["resnet9+se"], "unknown base 'resnet9' at character 1 of 'resnet9+se': did you mean 'resnet8'?"),
        (["baseline++se"], "at character 10"),
        ([""], "empty spec"),
        (["baseline+se+se"], "'se' at character 13"),
        (["baseline+drop_path=2"], "'2' is not a number from 0 to 0.9"),
        (["baseline+relu"], "'+relu' changes nothing"),
        (["timm/resnet18+se"], "'timm/resnet18'"),
        (["baseline@dat=1/4"], "'dat' in '@dat=1/4': did you mean 'data'?"),
        (["baseline", "--seeds", "0"], "--seeds"),
        (["baseline", "--seeds", "1001"], "--seeds"),
        (["baseline" + "+se-se" * 51], "more than 100 steps"),
        (["baseline", "--benchmark", "no\npe.toml"], r"'no\npe.toml'"),
        (["baseline", "--data", "x" * 300], "300 bytes"),
        (["baseline", "--benchmark", "digit"], "unknown benchmark 'digit' (or a .toml file): did you mean 'digits'?"),
        (["baseline", "--benchmark", "nowhere.toml"], "nowhere.toml"),
        (["baseline", "--device", "gpu"], "unknown --device 'gpu'"),
        (["baseline", "--data", "nowhere"], "--data nowhere"),
        (["baseline", "--bogus"], "--bogus"),
        (["baseline", "--columns", "latencies"], "unknown column 'latencies'"),
        (["baseline", "--runs-per-device", "0"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "65"], "--runs-per-device"),
        (["baseline", "--runs-per-device", "x"], "--runs-per-device"),
        (["baseline", "--time-limit", "0"], "--time-limit 0"),
        (["baseline", "--ray-gpus", "1"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--ray-cpus", "2"], "--ray-gpus and --ray-cpus need --executor ray"),
        (["baseline", "--world-size", "64"], "--world-size 64"),
        ([], "PLAN"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, error_line: ErrorLine
) -> None:
    assert message in error_line("run", *arguments, "--out", str(tmp_path / "out"))


@pytest.mark.parametrize("spec", ["../x", "baseline+../x", "a\x00b", "\x1b[31mred", "x" * 600, "CON", "baseline+con"])
def test_spec_that_cannot_be_a_file_name_is_rejected(spec: str, tmp_path: Path, error_line: ErrorLine) -> None:
    error_line("run", spec, "--out", str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--out", "--data", "--benchmark"])
@pytest.mark.parametrize("name", ["a\x00b.toml", "\x1b[31m.toml", "x" * 600 + ".toml", "CON.toml"])
def test_path_that_some_system_cannot_handle_is_rejected(
    option: str, name: str, tmp_path: Path, error_line: ErrorLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert option in error_line("run", "baseline", option, name)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output_folder_is_rejected_in_one_line(tmp_path: Path, error_line: ErrorLine) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to --out" in error_line("run", "baseline", "--out", str(tmp_path / "file" / "out"))


def test_unknown_key_in_a_benchmark_file_is_reported_with_a_suggestion(
    tiny: Path, tmp_path: Path, error_line: ErrorLine
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size", "batchsize"))
    line = error_line("run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out"))
    assert "unknown key 'batchsize' in [recipe]: did you mean 'batch_size'?" in line


def test_too_few_images_for_a_batch_are_rejected(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size = 50", "batch_size = 500"))
    assert main(["run", "baseline", "--benchmark", str(tiny), "--out", str(tmp_path / "out")]) == 2
    assert "200 training images do not fill one batch of 500" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_missing_data_error_says_how_to_get_the_data(tmp_path: Path, error_line: ErrorLine) -> None:
    (tmp_path / "empty").mkdir()
    shared = ["--out", str(tmp_path / "out"), "--data", str(tmp_path / "empty")]
    line = error_line("run", "baseline", "--benchmark", "cifar100", *shared)
    assert "--download" in line
    assert "train/<class>/" in line


def image_folder(root: Path, *classes: str) -> Path:
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (40 * number, 90, 10)).save(root / split / name / f"{number}.png")
    return root


def folder_benchmark(file: Path) -> list[str]:
    file.write_text('name = "pets"\nbaseline = "resnet8"\n[data]\nsource = "folder"\nnum_classes = 2\nimage_size = 8\n')
    return ["--benchmark", str(file)]


def test_unsuitable_image_folder_is_rejected_in_one_line(tmp_path: Path, error_line: ErrorLine) -> None:
    data = image_folder(tmp_path / "images", "cat", "dog", "fox")
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert "has 3 classes, but this benchmark has 2" in error_line(*arguments, "--out", str(tmp_path / "out"))


def test_damaged_image_is_named(tmp_path: Path, error_line: ErrorLine) -> None:
    data = image_folder(tmp_path / "images", "cat", "dog")
    (data / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    arguments = ["run", "baseline", *folder_benchmark(tmp_path / "pets.toml"), "--data", str(data)]
    assert "dog/1.png" in error_line(*arguments, "--out", str(tmp_path / "out"))


@pytest.mark.parametrize(("name", "device"), [(None, "rtx3090"), ("rtx4090", "rtx4090"), ("none", None)])
def test_device_profile_replaces_the_device_of_the_budget(name: str | None, device: str | None) -> None:
    benchmark = RunOptions(benchmark="cifar100", device_profile=name).load_benchmark()
    assert benchmark.budget.device == device
    assert benchmark.definition("images", "cpu") == BENCHMARKS["cifar100"].definition("images", "cpu")


def test_limits_of_a_search_replace_those_of_the_benchmark() -> None:
    benchmark = RunOptions(benchmark="cifar100", budget_hours=0.5, max_params="1M").load_benchmark()
    assert benchmark.budget == Budget(1_000_000, 0.5, "rtx3090")
    assert benchmark.definition("images", "cpu") == BENCHMARKS["cifar100"].definition("images", "cpu")


def test_unknown_device_profile_is_rejected(error_line: ErrorLine) -> None:
    assert "rtx3090" in error_line("run", "baseline+se", "--device-profile", "rtx3080")
