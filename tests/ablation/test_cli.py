from collections.abc import Callable
from importlib.metadata import version

import pytest

from ablation.cli import COMMANDS, main
from benchmarks.cli.budget_check import main as budget_check
from search.cli import main as search


@pytest.mark.parametrize("run", [main, search, budget_check])
def test_version_is_printed(run: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"timm-ablate {version('timm-ablate')}\n"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert COMMANDS.keys() <= set(capsys.readouterr().out.split())
