import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablation.cli import main
from benchmarks.definition.registry import load_benchmark


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an image folder with names that look like markup, and use another current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(f"{s}/{c}/{i}.png" for s in ("train", "test") for c in ("[red]", "=2+2") for i in "01"):
        path = tmp_path / "my pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "my pets"


def test_report_is_printed_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(folder / "train/[red]/0.png").save(folder / "test/[red]/copy.png")
    assert main(["data", "my pets", "--out", "out"]) == 0
    output = capsys.readouterr().out
    assert "2 classes, 9 images (4 train, 5 test)" in output
    assert "8 x 8 (9)" in output
    assert "RGB (9)" in output
    assert "no problems found" in output
    assert "images that are in several splits: 1" in output
    assert "test/[red]/copy.png = train/[red]/0.png" in output
    files = {path.name: path for path in Path("out").iterdir()}
    assert files.keys() == {f"data_my_pets_{end}" for end in ("classes.csv", "duplicates.csv", "contact_sheet.png")}
    assert files["data_my_pets_classes.csv"].read_text().splitlines() == ["class,train,test", "'=2+2,2,2", "[red],2,3"]
    assert len(files["data_my_pets_duplicates.csv"].read_text().splitlines()) == 3
    sheet = np.asarray(Image.open(files["data_my_pets_contact_sheet.png"]))
    assert len(np.unique(sheet.reshape(-1, sheet.shape[-1]), axis=0)) > 100


def test_printed_lines_define_a_benchmark(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(folder / "train"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    Path("mine.toml").write_text("\n".join(['name = "mine"', 'baseline = "resnet8"', *content["toml"]]))
    data = load_benchmark(Path("mine.toml")).data
    assert (data.source, data.num_classes, data.image_size, data.test_fraction) == ("folder", 2, 8, 0.2)


def test_problems_set_the_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train/[red]/broken.png").write_bytes(b"text")
    assert main(["data", str(folder)]) == 3
    assert "PROBLEM: cannot read image train/[red]/broken.png: " in capsys.readouterr().out
    assert main(["data", str(folder), "--json"]) == 3
    content = json.loads(capsys.readouterr().out)
    assert len(content["problems"]) == 1
    assert content["counts"]["train"] == {"=2+2": 2, "[red]": 2}


def test_an_image_of_any_shape_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (1, 900)).save(folder / "train/[red]/line.png")
    assert main(["data", str(folder)]) == 0
    assert "1 x 900 (1)" in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_a_problem_and_does_not_block(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "train/[red]/pipe.png")
    assert main(["data", str(folder)]) == 3
    assert "PROBLEM: cannot read image train/[red]/pipe.png: it is not a regular file" in capsys.readouterr().out


def test_csv_file_and_benchmark(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.csv").write_text("path,label\ntrain/[red]/0.png,a\ntrain/[red]/1.png,b\n")
    assert main(["data", str(folder / "list.csv"), "--benchmark", "digits"]) == 3
    output = capsys.readouterr().out
    assert "2 of 2 images were converted from RGB to gray" in output
    assert "has 2 classes, but the benchmark has 10" in output
    assert "does not set test_fraction" in output


def test_source_of_a_benchmark_needs_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--benchmark", "digits"]) == 0
    output = capsys.readouterr().out
    assert "digits: 10 classes, 700 images (200 train, 500 test)" in output
    assert "gray (700)" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "give a folder or a CSV file"),
        (("missing",), "no folder or CSV file missing"),
        (("my pets/train/[red]",), "neither train/<class>/ nor"),
        (("my pets/train/[red]/0.png",), "cannot read the folder"),
        (("my pets/train/[red]", "--benchmark", "digits"), "digits needs no --data"),
    ],
)
def test_unusable_arguments_are_explained(
    arguments: tuple[str, ...], expected: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") == 1
