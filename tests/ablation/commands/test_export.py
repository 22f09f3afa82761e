from pathlib import Path

import pytest

from ablation.cli import main


def test_records_go_to_tensorboard_and_the_line_says_how_to_look(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    assert main(["export", "tensorboard", "--out", str(recorded), "--seeds", "2"]) == 0
    assert capsys.readouterr().out.startswith("4 runs: tensorboard --logdir ")
    assert len(list(recorded.rglob("events.out.tfevents*"))) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tensorbord"], "unknown tracker 'tensorbord': did you mean 'tensorboard'?"),
        (["tensorboard", "baseline+sse"], "unknown part 'sse'"),
        ([], "TRACKER"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], words: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments, "--out", str(recorded)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
