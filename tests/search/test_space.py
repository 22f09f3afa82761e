import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FixedTrial, Trial

from arch.entries import Part, Value
from arch.errors import InputError
from arch.parts import PARTS
from arch.spec import parse
from arch.variant import Variant
from benchmarks.definition.benchmark import identify
from benchmarks.definition.overrides import RunConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.runs.run import Run
from search.rungs import SEARCH_SPLIT
from search.settings import SearchSettings
from search.space import ABSENT, ChoiceSpace, FunctionSpace, Space, all_parts_space


def constant_spec(trial: Trial) -> str:
    return "baseline"


def not_a_spec(trial: Trial) -> str:
    return ["baseline"]  # type: ignore[return-value]


def failing(trial: Trial) -> str:
    raise KeyError("one\ntwo")


def test_default_space_has_one_choice_per_group_with_all_its_parts() -> None:
    choices = all_parts_space().choices
    assert choices.keys() == {part.group for part in PARTS.values()}
    for group, fragments in choices.items():
        assert fragments[0] == ABSENT
        parts = {fragment.partition("=")[0] for fragment in fragments[1:]}
        assert parts == {f"+{name}" for name, part in PARTS.items() if part.group == group}
        assert len(set(fragments)) == len(fragments)


def test_default_space_has_all_candidate_values() -> None:
    fragments = [fragment for fragments in all_parts_space().choices.values() for fragment in fragments if fragment]
    for fragment in fragments:
        (step,) = parse(f"resnet50{fragment}").steps
        value = PARTS[step.part].value
        assert step.value is None if value is None else step.value in value.candidates()
    num_values = [len(part.value.candidates()) if part.value else 1 for part in PARTS.values()]
    assert len(fragments) == sum(num_values)


def test_registered_part_is_added_to_the_default_space(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_fragments_are_applied_in_the_order_of_the_choices() -> None:
    space = ChoiceSpace({"a": ("", "+se"), "b": ("", "+silu"), "c": ("+blurpool",)}, "resnet8")
    assert space.spec({"c": "+blurpool", "a": "+se"}) == "resnet8+se+blurpool"
    assert space.spec({}) == "resnet8"
    assert space.size == 4


def test_trial_suggests_every_choice(new_study: Callable[..., Study]) -> None:
    space, trial = all_parts_space(), new_study().ask()
    spec = space.suggest(trial)
    assert spec == space.spec(trial.params)
    suggested = {name: d.choices for name, d in trial.distributions.items() if isinstance(d, CategoricalDistribution)}
    assert suggested == {name: tuple(fragments) for name, fragments in space.choices.items()}
    assert trial.params.keys() == space.choices.keys()


@pytest.mark.slow
def test_candidates_cannot_change_the_training(search: SearchSettings, new_study: Callable[..., Study]) -> None:
    space = replace(all_parts_space(), lenient_baseline="resnet8")  # most random combinations do not fit together
    settings, study = replace(search, space=space), new_study()
    study.sampler = RandomSampler(seed=0)
    recipe, keys = settings.benchmark.definition("", "")["recipe"], set[str]()
    for _ in range(150):
        spec = settings.space.suggest(study.ask())
        try:
            config = RunConfig(parse(spec, "resnet8"))
        except InputError:  # some parts do not fit a model with three stages
            continue
        for rung, benchmark in enumerate(settings.rungs.benchmarks):
            run = Run(
                config,
                benchmark,
                0,
                search.data,
                "cpu",
                search.out,
                spec,
                0,
                0,
                predicted_hours=0.0,
                split=SEARCH_SPLIT,
            )
            schedule = {"epochs": benchmark.recipe.epochs, "warmup_epochs": benchmark.recipe.warmup_epochs}
            assert run.definition["recipe"] == recipe | schedule
            assert identify(run.definition) == settings.rung_id(rung)
        keys.add(config.key)
    assert len(keys) > 15


def test_no_field_of_the_recipe_is_a_part() -> None:
    assert not set(vars(Recipe())) & (PARTS.keys() | all_parts_space().choices.keys())


@pytest.mark.slow
def test_random_candidate_is_valid_or_does_not_fit() -> None:
    space, rng = all_parts_space(), random.Random(0)
    for _ in range(200):
        spec = space.spec({name: rng.choice(fragments) for name, fragments in space.choices.items()})
        try:
            parse(spec, "resnet8")
        except InputError as error:
            assert "does not fit" in str(error)  # noqa: PT017


def test_function_that_does_not_return_a_spec_is_refused() -> None:
    with pytest.raises(InputError, match=r"not_a_spec .*\['baseline'\]"):
        FunctionSpace(not_a_spec, "").suggest(FixedTrial({}))  # type: ignore[arg-type]


def test_error_of_a_function_is_one_line() -> None:
    with pytest.raises(InputError, match=r"--space: failing .*KeyError: ") as error:
        FunctionSpace(failing, "").suggest(FixedTrial({}))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_different_spaces_have_different_ids() -> None:
    choices = {"a": ("", "+se"), "b": ("", "+silu")}
    spaces: list[Space] = [
        ChoiceSpace(choices),
        ChoiceSpace(choices, "resnet8"),
        ChoiceSpace(choices, lenient_baseline="resnet8"),
        ChoiceSpace({"a": ("", "+se")}),
        ChoiceSpace({**choices, "a": ("+se", "")}),
        ChoiceSpace({**choices, "a": ("", "+eca")}),
        ChoiceSpace(dict(reversed(choices.items()))),  # the fragments are applied in a different order
        FunctionSpace(constant_spec, "source"),
        FunctionSpace(constant_spec, "another source"),
        FunctionSpace(failing, "source"),
    ]
    assert len({space.id for space in spaces}) == len(spaces)
    assert ChoiceSpace(dict(choices)).id == spaces[0].id
