import pytest

from ablation.cli import COMMANDS, main


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert COMMANDS.keys() <= set(capsys.readouterr().out.split())
