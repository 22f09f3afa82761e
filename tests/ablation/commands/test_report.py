import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.cli import main


def test_page_and_sources_of_its_numbers_are_written_to_the_output_folder(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--out", str(recorded)]) == 0
    page = recorded / "digits_baseline+se_report.pdf"
    assert page.read_bytes().startswith(b"%PDF")
    sources = json.loads(page.with_suffix(".json").read_text())
    assert [len(row["runs"]) for row in sources["rows"]] == [6, 6]
    assert "written: " in capsys.readouterr().out


@pytest.mark.slow
def test_interactive_page_is_one_small_file(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "--format", "html", "--title", "A <b>title</b>", "--out", str(recorded), "--json"]
    assert main(arguments) == 0
    [file] = json.loads(capsys.readouterr().out)["files"]
    page = recorded / "digits_baseline+se_report.html"
    assert Path(file) == page
    content = page.read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>")
    assert "<title>A &lt;b&gt;title&lt;/b&gt;</title>" in content
    assert "vegaEmbed" in content
    assert 500_000 < len(content) < 5_000_000
    assert not page.with_suffix(".pdf").exists()


@pytest.mark.parametrize("report_format", ["pdf", "html"])
def test_same_records_give_the_same_bytes(
    report_format: str, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ablation.report.html.page.chart_library", lambda: "// charts")
    page = recorded / f"digits_baseline+se_report.{report_format}"
    content = []
    for arguments in ([], [], ["--seeds", "5"]):
        assert main(["report", "--format", report_format, "--out", str(recorded), *arguments]) == 0
        content.append(page.read_bytes())
    assert content[0] == content[1] != content[2]


@pytest.mark.slow
def test_figures_for_slides(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--out", str(recorded), "--figures", str(tmp_path / "slides"), "--json"]) == 0
    files = [Path(file) for file in json.loads(capsys.readouterr().out)["files"]]
    assert all(file.exists() for file in files)
    assert {file.name for file in files[2:]} >= {"curves.png", "curves.svg", "top1_against_hours.svg"}


def test_unwritable_folder_is_reported_in_one_line(recorded: Path, error_line: Callable[..., str]) -> None:
    (recorded / "file").write_text("")
    assert "cannot write" in error_line("report", "--out", str(recorded), "--figures", str(recorded / "file" / "x"))


def test_title_author_and_text(
    recorded: Path, tmp_path: Path, error_line: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "text.md"
    file.write_text("We propose **SE**.")
    arguments = ["report", "--out", str(recorded), "--title", "A title", "--author", "Ada", "--text", str(file)]
    page = recorded / "digits_baseline+se_report.pdf"
    assert main(arguments[:3]) == 0
    plain = page.read_bytes()
    assert main(arguments) == 0
    content = page.read_bytes()
    assert content != plain
    capsys.readouterr()
    file.write_text("word " * 5000)
    assert "remove about" in error_line(*arguments)
    assert page.read_bytes() == content
    assert "cannot read --text" in error_line(*arguments, "--text", str(tmp_path / "missing.md"))


@pytest.mark.slow
def test_report_does_not_depend_on_the_user_settings_of_matplotlib(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "matplotlibrc").write_bytes(b"text.usetex: True\nsavefig.bbox: tight\nno colon\n\xff")
    page = recorded / "digits_baseline+se_report.pdf"
    slides = tmp_path / "slides"
    arguments = ["report", "--out", str(recorded), "--figures", str(slides)]
    assert main(arguments) == 0
    expected = {file: file.read_bytes() for file in (page, *slides.iterdir())}
    program = "import sys; sys.path.append(sys.argv[1]); from ablation.cli import main; sys.exit(main(sys.argv[2:]))"
    environment = {**os.environ, "MPLBACKEND": "module://missing", "MPLCONFIGDIR": "/proc/missing"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parents[3]), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert {file: file.read_bytes() for file in expected} == expected
