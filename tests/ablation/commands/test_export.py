from collections.abc import Callable
from pathlib import Path

import pytest

from ablation.cli import main


def test_export_to_tensorboard(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    assert main(["export", "tensorboard", "--out", str(recorded), "--seeds", "2"]) == 0
    assert capsys.readouterr().out.startswith("4 runs: tensorboard --logdir ")
    assert len(list(recorded.rglob("events.out.tfevents*"))) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tensorbord"], "unknown tracker 'tensorbord': did you mean 'tensorboard'?"),
        (["tensorboard", "baseline+sse"], "unknown part 'sse'"),
        ([], "TRACKER"),
    ],
)
def test_invalid_input_is_rejected_in_one_line(
    arguments: list[str], message: str, recorded: Path, error_line: Callable[..., str]
) -> None:
    assert message in error_line("export", *arguments, "--out", str(recorded))
