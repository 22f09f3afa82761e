from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study

from arch.errors import InputError
from arch.spec import parse
from search.space import ChoiceSpace, FunctionSpace
from search.space_file import load_space

CHOICES = """
base = "baseline+se"

[choices]
width = ["", "+width=0.5", "+width=1.5"]
rest = ["+silu", "+gelu+drop_path=0.2"]
"""
FUNCTION = """
WIDTHS = ["0.5", "2"]

def space(trial):
    spec = "baseline"
    if trial.suggest_categorical("attention", [True, False]):
        spec += "+se=" + str(trial.suggest_int("reduction", 2, 8, step=2))
    return spec + "+width=" + trial.suggest_categorical("width", WIDTHS)

def other(trial):
    return "baseline"

constant = "baseline"
"""


def write(folder: Path, content: str, name: str = "own.toml") -> str:
    file = folder / name
    file.write_text(content)
    return str(file)


def error_message(argument: str) -> str:
    """Return the one-line error message for an invalid space."""
    with pytest.raises(InputError) as error:
        load_space(argument, "resnet8")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_toml_contains_base_and_choices(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, CHOICES), "resnet8")
    assert isinstance(space, ChoiceSpace)
    assert space.base == "baseline+se"
    assert space.size == 6
    spec = space.spec({"width": "+width=0.5", "rest": "+gelu+drop_path=0.2"})
    assert str(parse(spec, "resnet8")) == "resnet8+se+width=0.5+gelu+drop_path=0.2"


def test_toml_without_base_starts_from_the_baseline(tmp_path: Path) -> None:
    assert load_space(write(tmp_path, '[choices]\nact = ["", "+silu"]'), "resnet8").base == "baseline"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[choices]\na = ["+sse"]', "unknown part 'sse'"),
        ('[choices]\na = ["", "+width=wide"]', "'wide' is not a number from 0.1 to 16"),
        ('[choices]\na = ["+width=99"]', "'99' is not a number from 0.1 to 16"),
        ('[choices]\na = ["+silu=2"]', "takes no value"),
        ('[choices]\na = ["+backbone=resnet9"]', "'resnet9' is not one of"),
        ('[choices]\na = ["+se-se"]', "unknown part 'se-se'"),
        ('[choices]\na = ["se"]', "'se' must be empty or start with +"),
        ('[choices]\na = ["-se"]', "'-se' must be empty or start with +"),
        ('[choices]\na = ["+"]', "unknown part ''"),
        ('[choices]\na = "+se"', "list of fragments"),
        ("[choices]\na = []", "list of fragments"),
        ("[choices]\na = [1, 2]", "list of fragments"),
        ('[choices]\na = ["+se", "", "+se"]', "a contains a fragment twice"),
        ('[choices]\na = ["+se"]\n[recipe]\nlr = 1', "expected a [choices] table"),
        ("[choices]", "expected a [choices] table"),
        ("", "expected a [choices] table"),
        ('choices = ["+se"]', "expected a [choices] table"),
        ('base = 3\n[choices]\na = ["+se"]', "expected a [choices] table"),
        ('base = "resnet9"\n[choices]\na = ["+se"]', "unknown base 'resnet9'"),
        ("[choices", "own.toml"),
    ],
)
def test_invalid_toml_is_refused_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    message = error_message(write(tmp_path, content))
    assert expected in message
    assert "own.toml" in message


def test_binary_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    assert "own.toml" in error_message(str(tmp_path / "own.toml"))


@pytest.mark.parametrize("name", ["none.toml", "none.py", "none.py:space", ".", "own.json", ""])
def test_missing_file_or_unknown_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "{}", "own.json")
    assert "FILE.toml or FILE.py:FUNCTION" in error_message(name)


def test_function_may_suggest_conditionally(tmp_path: Path, new_study: Callable[..., Study]) -> None:
    file = write(tmp_path, FUNCTION, "own.py")
    space, study = load_space(f"{file}:space", "resnet8"), new_study()
    assert isinstance(space, FunctionSpace)
    assert load_space(file, "resnet8").id == space.id  # "space" is the default name
    assert load_space(f"{file}:other", "resnet8").id != space.id
    study.sampler = RandomSampler(seed=0)
    specs = {space.suggest(study.ask()) for _ in range(40)}
    assert {"baseline+width=2", "baseline+se=2+width=0.5"} <= specs
    assert all(parse(spec, "resnet8") for spec in specs)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (FUNCTION, ":none", "no function 'none'"),
        (FUNCTION, ":constant", "no function 'constant'"),
        ("x = 1", "", "no function 'space'"),
        ("raise KeyError('x')", "", "KeyError: 'x'"),
        ("def space(:", "", "SyntaxError"),
        ("raise ValueError('one\\ntwo')", "", "ValueError: one"),
        ("import sys\nsys.exit('done')", "", "done"),
    ],
)
def test_invalid_python_is_refused_in_one_line(tmp_path: Path, content: str, name: str, expected: str) -> None:
    assert expected in error_message(write(tmp_path, content, "own.py") + name)


def test_id_of_a_function_depends_on_the_whole_file_when_it_was_loaded(tmp_path: Path) -> None:
    file = write(tmp_path, FUNCTION, "first.py")
    first = load_space(file, "resnet8")
    second = load_space(write(tmp_path, FUNCTION.replace('"2"', '"4"'), "second.py"), "resnet8")
    id_before = first.id
    assert id_before != second.id
    Path(file).write_text("")
    assert first.id == id_before
