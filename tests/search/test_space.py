import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FixedTrial

from arch.errors import InputError
from arch.parts import PARTS, Part, Value
from arch.spec import parse
from arch.variant import Variant
from benchmarks.definition.benchmark import identify
from benchmarks.definition.overrides import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.runs.run import Run
from search.rungs import SEARCH_SPLIT
from search.settings import SearchSettings
from search.space import ABSENT, ChoiceSpace, FunctionSpace, all_parts_space
from search.space_file import load_space

GOOD = """
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

def wrong(trial):
    return ["baseline"]

def fails(trial):
    return {}["one\\ntwo"]

constant = "baseline"
"""


def write(folder: Path, content: str, name: str = "own.toml") -> str:
    file = folder / name
    file.write_text(content)
    return str(file)


def complaint(text: str) -> str:
    """The one line that a space is refused with."""
    with pytest.raises(InputError) as error:
        load_space(text, "resnet8")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_there_is_one_choice_a_group_with_every_part_of_it_and_nothing() -> None:
    choices = all_parts_space().choices
    assert choices.keys() == {part.group for part in PARTS.values()}
    for group, fragments in choices.items():
        assert fragments[0] == ABSENT
        tried = {fragment.partition("=")[0] for fragment in fragments[1:]}
        assert tried == {f"+{name}" for name, part in PARTS.items() if part.group == group}
        assert len(set(fragments)) == len(fragments)


def test_every_fragment_can_be_read_and_is_the_value_it_says() -> None:
    fragments = [fragment for fragments in all_parts_space().choices.values() for fragment in fragments if fragment]
    for fragment in fragments:
        (step,) = parse(f"resnet50{fragment}").steps
        value = PARTS[step.part].value
        assert step.value is None if value is None else step.value in value.candidates()
    values = [len(part.value.candidates()) if part.value else 1 for part in PARTS.values()]
    assert len(fragments) == sum(values)


def test_a_registered_part_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(variant: Variant, rate: float) -> Variant:
        return replace(variant, dropout=rate)

    before = all_parts_space()
    monkeypatch.setitem(PARTS, "mine", Part("mine", "", apply, Value(0.5, 0, 1, grid=(0.25, 0.5)), "my_group"))
    monkeypatch.setitem(PARTS, "my_act", Part("my_act", "", lambda variant: variant, group="act"))
    after = all_parts_space()
    assert after.choices["my_group"] == ("", "+mine=0.25", "+mine=0.5")
    assert after.choices["act"] == (*before.choices["act"], "+my_act")
    assert after.id != before.id
    assert parse(after.spec({"my_group": "+mine=0.25"}), "resnet8").variant().dropout == 0.25


def test_a_candidate_has_its_fragments_in_the_order_of_the_choices() -> None:
    space = ChoiceSpace({"a": ("", "+se"), "b": ("", "+silu"), "c": ("+blurpool",)}, "resnet8")
    assert space.spec({"c": "+blurpool", "a": "+se"}) == "resnet8+se+blurpool"
    assert space.spec({}) == "resnet8"
    assert space.size == 4


def test_a_trial_suggests_every_choice(new_study: Callable[..., Study]) -> None:
    space, trial = all_parts_space(), new_study().ask()
    spec = space.suggest(trial)
    assert trial.params.keys() == space.choices.keys()
    assert spec == space.spec(trial.params)
    assert {name: d.choices for name, d in trial.distributions.items() if isinstance(d, CategoricalDistribution)} == {
        name: tuple(fragments) for name, fragments in space.choices.items()
    }


def test_no_candidate_can_say_anything_about_the_training(
    search: SearchSettings, new_study: Callable[..., Study]
) -> None:
    space, study = all_parts_space(), new_study()
    study.sampler = RandomSampler(seed=0)
    searched, seen = replace(search, space=space), Counter[str]()
    for _ in range(300):
        spec = space.suggest(study.ask())
        try:
            variant = parse(spec, "resnet8").variant()
        except InputError:  # fits no net of three stages
            continue
        for rung, benchmark in enumerate(searched.rungs.benchmarks):
            run = Run(
                read_run_config(spec, "resnet8"),
                benchmark,
                0,
                search.data,
                "cpu",
                search.out,
                spec,
                0,
                0,
                0.0,
                split=SEARCH_SPLIT,
            )
            assert run.definition["recipe"] == searched.benchmark.definition("", "")["recipe"] | {
                "epochs": benchmark.recipe.epochs,
                "warmup_epochs": benchmark.recipe.warmup_epochs,
            }
            assert identify(run.definition) == searched.rung_id(rung)
        seen[variant.key()] += 1
    assert len(seen) > 30


def test_no_word_of_the_recipe_is_a_part() -> None:
    assert not set(vars(Recipe())) & (PARTS.keys() | all_parts_space().choices.keys())


def test_toml_names_a_base_and_lists_of_fragments(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, GOOD), "resnet8")
    assert isinstance(space, ChoiceSpace)
    assert space.base == "baseline+se"
    assert space.size == 6
    spec = space.spec({"width": "+width=0.5", "rest": "+gelu+drop_path=0.2"})
    assert str(parse(spec, "resnet8")) == "resnet8+se+width=0.5+gelu+drop_path=0.2"


def test_without_a_base_toml_starts_from_the_baseline(tmp_path: Path) -> None:
    assert load_space(write(tmp_path, '[choices]\nact = ["", "+silu"]'), "resnet8").base == "baseline"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[choices]\na = ["+sse"]', "unknown part 'sse'"),
        ('[choices]\na = ["", "+width=wide"]', "'wide' is not a number from 0.1 to 16"),
        ('[choices]\na = ["+width=99"]', "'99' is not a number from 0.1 to 16"),
        ('[choices]\na = ["+silu=2"]', "takes no value"),
        ('[choices]\na = ["+trunk=resnet9"]', "'resnet9' is not one of"),
        ('[choices]\na = ["+se-se"]', "unknown part 'se-se'"),
        ('[choices]\na = ["se"]', "'se' must be empty or start with +"),
        ('[choices]\na = ["-se"]', "'-se' must be empty or start with +"),
        ('[choices]\na = ["+"]', "unknown part ''"),
        ('[choices]\na = "+se"', "must be a list of fragments"),
        ("[choices]\na = []", "must be a list of fragments"),
        ("[choices]\na = [1, 2]", "must be a list of fragments"),
        ('[choices]\na = ["+se", "", "+se"]', "a has a fragment twice"),
        ('[choices]\na = ["+se"]\n[recipe]\nlr = 1', "valid are base, a spec, and [choices]"),
        ("[choices]", "valid are base, a spec, and [choices]"),
        ("", "valid are base, a spec, and [choices]"),
        ('choices = ["+se"]', "valid are base, a spec, and [choices]"),
        ('base = 3\n[choices]\na = ["+se"]', "valid are base, a spec, and [choices]"),
        ('base = "resnet9"\n[choices]\na = ["+se"]', "unknown base 'resnet9'"),
        ("[choices", "own.toml"),
    ],
)
def test_toml_that_is_no_space_is_one_line(tmp_path: Path, content: str, expected: str) -> None:
    line = complaint(write(tmp_path, content))
    assert expected in line
    assert "own.toml" in line


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    assert "own.toml" in complaint(str(tmp_path / "own.toml"))


@pytest.mark.parametrize("name", ["none.toml", "none.py", "none.py:space", ".", "own.json", ""])
def test_a_file_that_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "{}", "own.json")
    assert "FILE.toml or FILE.py:FUNCTION" in complaint(name)


def test_a_function_may_suggest_on_conditions(tmp_path: Path, new_study: Callable[..., Study]) -> None:
    file = write(tmp_path, FUNCTION, "own.py")
    space, study = load_space(f"{file}:space", "resnet8"), new_study()
    assert isinstance(space, FunctionSpace)
    assert load_space(file, "resnet8").id == space.id  # its usual name
    study.sampler = RandomSampler(seed=0)
    specs = {space.suggest(study.ask()) for _ in range(40)}
    assert {"baseline+width=2", "baseline+se=2+width=0.5"} <= specs
    assert all(parse(spec, "resnet8") for spec in specs)


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (FUNCTION, ":none", "it has no function 'none'"),
        (FUNCTION, ":constant", "it has no function 'constant'"),
        ("x = 1", "", "it has no function 'space'"),
        ("raise KeyError('x')", "", "KeyError: 'x'"),
        ("def space(:", "", "SyntaxError"),
        ("raise ValueError('one\\ntwo')", "", "ValueError: one"),
        ("import sys\nsys.exit('done')", "", "done"),
    ],
)
def test_python_without_a_space_is_one_line(tmp_path: Path, content: str, name: str, expected: str) -> None:
    assert expected in complaint(write(tmp_path, content, "own.py") + name)


def test_what_is_no_spec_is_refused(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, FUNCTION, "own.py") + ":wrong", "resnet8")
    with pytest.raises(InputError, match=r"wrong must return a spec, such as 'baseline\+se': not \['baseline'\]"):
        space.suggest(FixedTrial({}))  # type: ignore[arg-type]  # it suggests like one


def test_a_function_that_fails_is_one_line(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, FUNCTION, "own.py") + ":fails", "resnet8")
    with pytest.raises(InputError, match="--space: fails: KeyError: ") as error:
        space.suggest(FixedTrial({}))  # type: ignore[arg-type]  # it suggests like one
    assert "\n" not in str(error.value)


def test_ids_differ_where_spaces_do(tmp_path: Path) -> None:
    choices = {"a": ("", "+se"), "b": ("", "+silu")}
    spaces: list[ChoiceSpace | FunctionSpace] = [
        ChoiceSpace(choices),
        ChoiceSpace(choices, "resnet8"),
        ChoiceSpace({"a": ("", "+se")}),
        ChoiceSpace({**choices, "a": ("+se", "")}),
        ChoiceSpace({**choices, "a": ("", "+eca")}),
        ChoiceSpace(dict(reversed(choices.items()))),  # which is the order of application
    ]
    for name in ("space", "wrong"):
        own = load_space(write(tmp_path, FUNCTION, "own.py") + f":{name}", "resnet8")
        assert isinstance(own, FunctionSpace)
        spaces.append(own)
    assert len({space.id for space in spaces}) == len(spaces)
    assert ChoiceSpace(dict(choices)).id == spaces[0].id


def test_a_constant_beside_a_function_is_part_of_its_space(tmp_path: Path) -> None:
    file = write(tmp_path, FUNCTION, "first.py")
    first = load_space(file, "resnet8")
    second = load_space(write(tmp_path, FUNCTION.replace('"2"', '"4"'), "second.py"), "resnet8")
    before = first.id
    assert before != second.id
    Path(file).write_text("")  # what has been read stays what it is
    assert first.id == before


def test_a_random_candidate_is_a_spec_or_one_clear_line() -> None:
    space, rng = all_parts_space(), random.Random(0)
    for _ in range(200):
        spec = space.spec({name: rng.choice(fragments) for name, fragments in space.choices.items()})
        try:
            parse(spec, "resnet8")
        except InputError as error:
            assert "does not fit" in str(error)  # noqa: PT017
