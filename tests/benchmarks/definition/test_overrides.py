from collections.abc import Callable
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arch.errors import InputError
from arch.spec import parse
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.benchmark import BENCHMARKS, DatasetConfig
from benchmarks.definition.overrides import (
    DEEPEST,
    PLAIN,
    PREVIOUS,
    SETTINGS,
    UNIFORM,
    Distillation,
    RunConfig,
    TrainingOverrides,
    config_key,
    read_run_config,
)
from benchmarks.definition.recipe import Recipe

DIGEST = "0123456789abcdef"
ALL = "resnet8@data=1/4@epochs=2@init=0123456789abcdef@freeze=layer1:stem@teacher=(resnet20@data=1/2)@T=2@alpha=0.5"

fractions = st.fractions(Fraction(1, 10**6), 1, max_denominator=10**6)
floats = st.decimals("0.000001", 1, places=6).map(float)


def configs(teachers: st.SearchStrategy[RunConfig]) -> st.SearchStrategy[RunConfig]:
    distillations = st.builds(
        Distillation, teachers | st.sampled_from([PREVIOUS, UNIFORM]), st.decimals(1, 2, places=6).map(float), floats,
        st.booleans(), st.just(False),
    ) | st.builds(Distillation, teachers, alpha=floats, hard=st.just(True))  # fmt: skip
    layers = st.sets(st.from_regex(r"[a-z]{1,5}(\.[0-9])?", fullmatch=True), max_size=3)
    overrides = st.builds(
        TrainingOverrides, fractions, fractions.map(lambda x: 100 * x), st.sampled_from(["", DIGEST]),
        layers.map(lambda names: tuple(sorted(names))), st.booleans(), st.none() | distillations,
    )  # fmt: skip
    specs = st.sampled_from(["resnet8", "resnet8+se=8-se+cbam", "timm/resnet18", "timm/resnet18/224"])
    return st.builds(RunConfig, specs.map(parse), overrides)


nested = configs(configs(st.just(read_run_config("resnet20"))))


def key(text: str) -> str:
    return read_run_config(text, "resnet8").key


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_run_config(text, "resnet8")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def attempt(text: str) -> RunConfig | InputError:
    try:
        return read_run_config(text, "resnet8")
    except InputError as error:
        return error


@given(nested)
def test_a_setup_reads_back_as_it_was_written(config: RunConfig) -> None:
    assert read_run_config(str(config)) == config
    assert read_run_config(str(config)).key == config.key


@given(st.text(alphabet="resnt8@=()/.:0123Tadlph\n\0", max_size=30))
def test_any_text_behind_a_spec_is_a_setup_or_a_refusal_in_one_line(text: str) -> None:
    config = attempt(f"resnet8@teacher={text}")
    if isinstance(config, RunConfig):
        assert read_run_config(str(config)) == config
    else:
        assert len(str(config).splitlines()) == 1


def test_what_is_as_by_default_is_not_written() -> None:
    assert str(read_run_config("resnet8@data=1@epochs=1.0@teacher=(resnet20@data=1)@T=4@alpha=0.9")) == (
        "resnet8@teacher=(resnet20)"
    )
    assert str(read_run_config("resnet8@data=0.25@freeze=stem:layer1:stem")) == "resnet8@data=1/4@freeze=layer1:stem"


@pytest.mark.parametrize("value", ["0.000001", "0.123457", "0.999999"])
def test_a_number_keeps_every_digit_and_has_no_exponent(value: str) -> None:
    text = f"resnet8@teacher=uniform@T=12.{value[2:]}@alpha={value}"
    assert str(read_run_config(text)) == text


def test_the_settings_say_what_is_trained() -> None:
    config = read_run_config(f"{ALL}@growing")
    taught = Distillation(read_run_config("resnet20@data=1/2"), 2.0, 0.5, growing=True)
    assert config.overrides == TrainingOverrides(
        Fraction(1, 4), Fraction(2), DIGEST, ("layer1", "stem"), distillation=taught
    )
    assert config.overrides.teacher == taught.teacher
    assert config.architecture == parse("resnet8").architecture


def test_what_stands_for_a_teacher_is_no_other_net() -> None:
    assert read_run_config("resnet8@teacher=previous").overrides.teacher is None
    assert read_run_config("resnet8@teacher=uniform").overrides.distillation == Distillation(UNIFORM, 1.0)


@pytest.mark.parametrize("spec", ["resnet8", "resnet8+se", "timm/resnet18", "timm/resnet18/224"])
def test_a_plain_setup_has_its_architectures_own_key(spec: str) -> None:
    assert key(spec) == parse(spec).architecture.key() == config_key(parse(spec).architecture, TrainingOverrides())


def test_every_setting_changes_the_key() -> None:
    taught = "resnet8@teacher=(resnet20)"
    texts = ["resnet8", "resnet8@data=1/4", "resnet8@epochs=2", f"resnet8@init={DIGEST}", "resnet8@freeze=stem", taught,
             "resnet8@updates"]  # fmt: skip
    texts += [f"{taught}@{more}" for more in ("T=2", "alpha=0.5", "growing", "hard", "data=1/4")]
    texts += ["resnet8@teacher=previous", "resnet8@teacher=uniform", "resnet8@teacher=(resnet20@epochs=2)"]
    texts += [f"resnet8@teacher=(resnet20@init={DIGEST}{more})" for more in ("", "@epochs=0")]
    texts += ["resnet8@teacher=(resnet20@teacher=(resnet56))", "resnet20@data=1/4", "resnet8@freeze=stem:layer1"]
    assert len({key(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("resnet8@data=1/4@epochs=2", "resnet8@epochs=2@data=1/4"),
        ("resnet8@data=1/4", "resnet8@data=0.25"),
        ("resnet8@data=1/4", "resnet8@data=04/16"),
        ("resnet8@data=1", "resnet8"),
        ("baseline@data=1/4", "resnet8@data=1/4"),
        ("resnet8+se-se@data=1/4", "resnet8@data=1/4"),
        ("resnet8@teacher=(resnet20)@T=2", "resnet8@T=2.0@teacher=(resnet20)"),
        ("resnet8@teacher=(baseline+se-se)", "resnet8@teacher=(resnet8)"),
        ("resnet20@teacher=(resnet8@data=0.5)", "resnet20@teacher=(baseline@data=1/2)"),
        ("resnet8@freeze=stem:layer1", "resnet8@freeze=layer1:stem"),
        ("timm/resnet18/0224@data=1/4", "timm/resnet18/224@data=1/4"),
    ],
)
def test_equal_setups_have_equal_keys_however_they_are_written(one: str, other: str) -> None:
    assert key(one) == key(other)


def behind_each_other(teachers: int) -> str:
    return "resnet8" + "@teacher=(resnet8" * teachers + ")" * teachers


def test_teachers_stand_one_behind_the_other_up_to_a_depth() -> None:
    assert read_run_config(behind_each_other(DEEPEST)).generation == DEEPEST
    assert f"more than {DEEPEST} teachers" in refusal(behind_each_other(DEEPEST + 1))
    assert f"more than {DEEPEST} teachers" in refusal(behind_each_other(20_000))


def test_a_setup_waits_for_teachers_that_are_trained() -> None:
    assert read_run_config("resnet8@teacher=previous").generation == 0
    as_it_is = read_run_config(f"resnet8@teacher=(resnet20@init={DIGEST}@epochs=0)")
    assert as_it_is.generation == 0
    assert as_it_is.overrides.teacher is not None
    assert not as_it_is.overrides.teacher.is_trained
    assert read_run_config(f"resnet8@teacher=(resnet20@init={DIGEST})").generation == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("@dat=1/4", ["unknown setting 'dat'", "did you mean 'data'?", *SETTINGS]),
        ("@lr=0.1", ["unknown setting 'lr'", "valid: "]),
        ("@", ["unknown setting ''"]),
        ("@data=1/4@data=1/2", ["'@data' stands twice", "'@data=1/4@data=1/2'"]),
        ("@teacher=previous@growing=1", ["'@growing' takes no value"]),
        ("@data", ["'@data' takes a value"]),
        ("@data=", ["'@data' takes a value"]),
        ("@init=", ["'@init' takes a value"]),
        ("@teacher=(resnet20", ["brackets", "do not match"]),
        ("@teacher=resnet20)", ["brackets", "do not match"]),
        ("@teacher=(resnet20)(resnet8)", ["brackets", "do not match"]),
        ("@data=0", ["'@data=0'", "above 0 up to 1"]),
        ("@data=2", ["'@data=2'", "above 0 up to 1", "1/4"]),
        ("@data=5/4", ["'@data=5/4'", "above 0 up to 1"]),
        ("@data=1/0", ["'@data=1/0'", "above 0 up to 1"]),
        ("@data=-1", ["above 0 up to 1"]),
        ("@data=1e-3", ["above 0 up to 1"]),
        ("@data=nan", ["above 0 up to 1"]),
        ("@data=\u0661", ["above 0 up to 1"]),
        ("@data=" + "9" * 5000, ["above 0 up to 1"]),
        ("@data=1/" + "9" * 5000, ["above 0 up to 1"]),
        ("@epochs=101", ["'@epochs=101'", "from 0 up to 100"]),
        ("@epochs=" + "9" * 5000, ["from 0 up to 100"]),
        ("@epochs=0", ["'@epochs=0' is for a teacher", "(SPEC@init=FILE@epochs=0)"]),
        (f"@epochs=0@init={DIGEST}", ["'@epochs=0' is for a teacher"]),
        ("@teacher=(resnet20@epochs=0)", ["'@epochs=0' is for a teacher"]),
        (f"@teacher=(resnet20@init={DIGEST}@epochs=0@data=1/2)", ["'@epochs=0' is for a teacher"]),
        ("@alpha=0.5", ["'@alpha' needs a '@teacher='"]),
        ("@hard", ["'@hard' needs a '@teacher='"]),
        ("@teacher=resnet20", ["'@teacher=resnet20'", "previous, uniform", "@teacher=(resnet20)"]),
        ("@teacher=()", ["empty spec"]),
        ("@teacher=(resnet21)", ["unknown base 'resnet21'", "did you mean 'resnet20'?"]),
        ("@teacher=previous@T=0", ["'@T=0'", "from 0.1 to 100"]),
        ("@teacher=previous@T=" + "9" * 5000, ["from 0.1 to 100"]),
        ("@teacher=previous@alpha=1.5", ["'@alpha=1.5'", "from 1e-06 to 1"]),
        ("@init=weights.pth", ["'@init=weights.pth'", "16 hexadecimal digits"]),
        ("@freeze=:", ["'@freeze=:'", "@freeze=stem:layer1"]),
        ("@freeze=a,b", ["'@freeze=a,b'", "@freeze=stem:layer1"]),
        ("@freeze=a\nb", [r"'@freeze=a\nb'"]),
        ("@data=1\n/4", [r"'@data=1\n/4'"]),
        ("@data=1/4\0", [r"'@data=1/4\x00'"]),
        ("@da\nta=1", [r"unknown setting 'da\nta'", "did you mean 'data'?"]),
        ("@teacher=a\nb", [r"'@teacher=a\nb'"]),
        ("@init=\u2028", [r"'@init=\u2028'"]),
        ("@teacher=previous@T=1\n", [r"'@T=1\n'"]),
    ],
)
def test_a_setting_that_cannot_be_read_is_one_line_that_names_what_is_valid(settings: str, says: list[str]) -> None:
    message = refusal(f"resnet8{settings}")
    assert [words for words in says if words not in message] == []


@pytest.mark.parametrize(
    ("text", "words"), [("", "empty spec"), ("@data=1/4", "empty spec"), ("resnet9@data=1/4", "unknown base 'resnet9'")]
)
def test_a_setup_begins_with_a_spec(text: str, words: str) -> None:
    assert words in refusal(text)


RECIPES = [Recipe(), Recipe(epochs=1, warmup_epochs=0, lr=0.2), *(known.recipe for known in BENCHMARKS.values())]


@pytest.mark.parametrize("recipe", RECIPES)
@given(config=nested)
def test_of_a_recipe_only_the_epochs_and_the_warm_up_can_be_others(recipe: Recipe, config: RunConfig) -> None:
    treated = config.overrides.recipe(recipe, 50_000, 50_000)
    changed = {field.name for field in fields(Recipe) if getattr(treated, field.name) != getattr(recipe, field.name)}
    assert changed <= {"epochs", "warmup_epochs"}
    assert 0 <= treated.warmup_epochs < treated.epochs


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [("1", (200, 5)), ("2", (400, 10)), ("1/2", (100, 2)), ("1/1000", (1, 0)), ("16", (3200, 80))],
)
def test_a_longer_training_has_the_same_share_of_warm_up(epochs: str, expected: tuple[int, int]) -> None:
    treated = read_run_config(f"resnet8@epochs={epochs}").overrides.recipe(Recipe(), 50_000, 50_000)
    assert (treated.epochs, treated.warmup_epochs) == expected


@pytest.mark.parametrize("fraction", ["1/1000", "1/64", "1/40", "1/3", "0.51", "1"])
@pytest.mark.parametrize(("classes", "each"), [(10, 8), (100, 100)])
def test_a_part_of_the_images_is_counted_as_it_is_taken(fraction: str, classes: int, each: int, tmp_path: Path) -> None:
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}_labels.npy", np.repeat(np.arange(classes), each))
    data = CachedDataset(tmp_path, tuple(map(str, range(classes))), "", (1, 8, 8), {})
    overrides = read_run_config(f"resnet8@data={fraction}").overrides
    there = data.counts(DatasetConfig("folder", classes), overrides.fraction)[0]
    assert overrides.images(classes * each, classes) == there


@pytest.mark.parametrize(("images", "epochs"), [(10_000, 30), (5_000, 62), (2_499, 130), (100, 1170)])
def test_as_many_updates_are_reckoned_from_whole_batches(images: int, epochs: int) -> None:
    recipe = Recipe(epochs=30, batch_size=256, warmup_epochs=3)
    treated = read_run_config("resnet8@updates").overrides.recipe(recipe, images, 10_000)
    assert treated.epochs == epochs
    updates = treated.epochs * max(1, images // 256)
    assert abs(updates - 30 * (10_000 // 256)) <= max(1, images // 256) / 2


def test_too_many_epochs_for_as_many_updates_are_refused() -> None:
    with pytest.raises(InputError, match="as many updates on 256 images are 390 times the epochs: over 100"):
        read_run_config("resnet8@updates").overrides.recipe(Recipe(batch_size=256), 256, 100_000)


@pytest.mark.parametrize("text", ["resnet8@teacher=uniform@hard", "resnet8@teacher=(resnet20)@hard@T=2"])
def test_what_a_hard_teacher_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="'@hard' takes a net's answers"):
        read_run_config(text)


def test_without_a_temperature_the_uniform_teacher_smooths_labels() -> None:
    assert read_run_config("resnet8@teacher=uniform@alpha=0.1") == read_run_config(
        "resnet8@teacher=uniform@T=1@alpha=0.1"
    )


@pytest.mark.parametrize(
    "change", [lambda t: replace(t, fraction=Fraction(1, 2)), lambda t: replace(t, weights=DIGEST)]
)
def test_without_a_change_of_epochs_the_recipe_is_the_same(
    change: Callable[[TrainingOverrides], TrainingOverrides],
) -> None:
    assert change(PLAIN).recipe(Recipe(), 25_000, 50_000) == Recipe()
