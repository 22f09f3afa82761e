import pytest

from benchmarks.studies.gpu_session.options import parse_options


@pytest.mark.parametrize(
    "arguments",
    [["nan"], ["inf"], ["0"], ["60", "--total", "nan"], ["60", "--slowdown", "0"], ["60", "--slowdown", "-1"]],
    ids=str,
)
def test_times_are_positive_and_finite(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse_options(["probe", "out", *arguments])
    assert error.value.code == 2
    assert "positive" in capsys.readouterr().err
