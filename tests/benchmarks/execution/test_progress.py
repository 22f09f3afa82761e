import io

import pytest

from benchmarks.execution import progress
from benchmarks.execution.progress import Display, Progress, silent


def show(*steps: Progress) -> None:
    with Display() as display:
        for step in steps:
            display(step)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print plain progress lines, which are used without a terminal, with no minimum interval."""
    monkeypatch.setattr(progress, "PLAIN_LINE_INTERVAL", 0.0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard error behave like a wide terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of the clock, as the only item of a list, to be changed by the test."""
    time = [0.0]
    monkeypatch.setattr("benchmarks.execution.progress.time.monotonic", lambda: time[0])
    return time


def test_silent_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent(Progress("training", 1, 2))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("often")
def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    show(Progress("training", 0, 4), Progress("training", 1, 4, "top-1 50.00"), Progress("training", 4, 4))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 0/4",
        "training: 1/4, about 0:00:00 left top-1 50.00",
        "training: 4/4, about 0:00:00 left",
    ]


@pytest.mark.usefixtures("often")
def test_the_remaining_time_follows_from_the_elapsed_time(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for done in (0, 1, 2):
        now[0] = 90.0 * done
        display(Progress("training", done, 4))
    assert capsys.readouterr().err.splitlines() == [
        "training: 0/4",
        "training: 1/4, about 0:04:30 left",
        "training: 2/4, about 0:03:00 left",
    ]


@pytest.mark.usefixtures("often")
def test_the_remaining_time_of_another_task_follows_from_its_own_speed(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    for moment, state in [
        (1000.0, Progress("counting", 1, 2)),
        (2000.0, Progress("training", 50, 100)),  # resumes from a checkpoint
        (2010.0, Progress("training", 60, 100)),
    ]:
        now[0] = moment
        display(state)
    assert capsys.readouterr().err.splitlines() == [
        "counting: 1/2",
        "training: 50/100",
        "training: 60/100, about 0:00:40 left",
    ]


@pytest.mark.usefixtures("often")
def test_the_remaining_time_is_at_most_that_until_the_task_ends_anyway(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    for done, max_seconds in ((0, 500.0), (1, 410.0), (3, 230.0)):
        now[0] = 90.0 * done
        display(Progress("candidates", done, 6, max_seconds_left=max_seconds))
    assert capsys.readouterr().err.splitlines() == [
        "candidates: 0/6, about 0:08:20 left",
        "candidates: 1/6, about 0:06:50 left",
        "candidates: 3/6, about 0:03:50 left",
    ]


@pytest.mark.usefixtures("terminal")
def test_a_bar_shows_the_remaining_time(now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        for done in (0, 1):
            now[0] = 90.0 * done
            display(Progress("training", done, 4))
    assert "about 0:04:30 left" in capsys.readouterr().err


def test_plain_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    show(*(Progress("training", done, 100) for done in range(100)))
    assert capsys.readouterr() == ("", "")


def test_messages_are_printed_without_markup_or_wrapping(capsys: pytest.CaptureFixture[str]) -> None:
    line = "baseline [bold]+se[/bold] 12.5 " + "long " * 40
    with Display() as display:
        display.say(line)
    assert capsys.readouterr() == ("", line + "\n")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    show(Progress("row [se]", 1, 4, "top-1 [50.00]"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "row [se]" in err
    assert "1/4" in err
    assert "top-1 [50.00]" in err


@pytest.mark.usefixtures("terminal")
def test_a_new_total_starts_a_new_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        display(Progress("counting", 3, 3))
        display(Progress("training", 1, 40))
        assert [(task.description, task.completed, task.total) for task in display._bars.tasks] == [("training", 1, 40)]


@pytest.mark.usefixtures("terminal")
def test_the_bar_is_removed_by_an_exception(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    with pytest.raises(ZeroDivisionError), display:
        raise ZeroDivisionError
    assert display._bars.live.is_started is False


def test_a_warning_is_printed_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show(Progress("row [se]", 0, 0, warning="the disk is full [again]"))
    assert capsys.readouterr() == ("", "warning: row [se]: the disk is full [again]\n")


def test_a_warning_does_not_change_the_remaining_time(
    now: list[float], capsys: pytest.CaptureFixture[str], often: None
) -> None:
    display = Display()
    steps = [Progress("training", 0, 4), Progress("training", 0, 0, warning="careful"), Progress("training", 1, 4)]
    for moment, step in zip((0.0, 50.0, 90.0), steps, strict=True):
        now[0] = moment
        display(step)
    assert capsys.readouterr().err.splitlines()[-1] == "training: 1/4, about 0:04:30 left"


def test_without_a_terminal_no_question_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with Display() as display:
        assert display.ask("go on?", ("yes", "no")) is None
    assert capsys.readouterr() == ("", "")


class Keyboard(io.StringIO):
    """Fake standard input of a user at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("terminal")
def test_a_question_is_repeated_until_the_answer_is_valid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard("perhaps\nno\n"))
    with Display() as display:
        assert display.ask("go on?", ("yes", "no")) == "no"
        assert display._bars.live.is_started
    assert capsys.readouterr().err.count("go on?") == 2


@pytest.mark.usefixtures("terminal")
def test_with_closed_input_no_question_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert Display().ask("go on?", ("yes", "no")) is None
