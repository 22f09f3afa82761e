from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.cli import main
from arch.models import build
from arch.plugins import load_plugins, unload_plugins
from arch.spec import parse
from benchmarks.definition.registry import load_benchmark


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "specs"),
    [
        ("net", ["my_own", "my_own+se+silu+dropout", "resnet8+block=my_own+se"]),
        ("part", ["resnet8+se+my_own", "resnet8+my_own=8"]),
    ],
)
def test_a_new_plugin_is_named_after_its_file_and_runs_as_it_is(
    kind: str, specs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", kind, "my_own.py"]) == 0
    assert capsys.readouterr().out.startswith("written: my_own.py")
    try:
        load_plugins(["my_own.py"])
        for spec in specs:
            assert build(parse(spec).architecture, 7).num_classes == 7
    finally:
        unload_plugins()


def test_a_new_benchmark_is_complete() -> None:
    assert main(["new", "benchmark", "mine.toml"]) == 0
    benchmark = load_benchmark(Path("mine.toml"))
    assert (benchmark.name, benchmark.baseline, benchmark.data.source) == ("mine", "resnet8", "digits")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["net", "taken.py"], "taken.py exists"),
        (["net", "my-net.py"], "use letters, digits and _"),
        (["net", "class.py"], "use letters"),
        (["net", "my_net.toml"], "is a .py file"),
        (["part", "se.py"], "taken by a built-in part"),
        (["net", "resnet18.py"], "taken by a built-in net"),
        (["benchmark", "digits.toml"], "taken by a built-in benchmark"),
        (["net", "missing/my_net.py"], "No such file or directory"),
    ],
)
def test_an_unusable_file_name_is_refused(arguments: list[str], expected: str, error_line: Callable[..., str]) -> None:
    Path("taken.py").touch()
    assert expected in error_line("new", *arguments)
