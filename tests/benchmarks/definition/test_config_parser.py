from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arch.errors import InputError
from arch.spec import parse
from benchmarks.definition.config_parser import MAX_NESTING_DEPTH, SETTING_NAMES, read_run_config
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, Distillation, RunConfig, TrainingOverrides

DIGEST = "0123456789abcdef"
ALL = "resnet8@data=1/4@epochs=2@init=0123456789abcdef@freeze=layer1:stem@teacher=(resnet20@data=1/2)@T=2@alpha=0.5"

fractions = st.fractions(Fraction(1, 10**6), 1, max_denominator=10**6)
alphas = st.decimals("0.000001", 1, places=6).map(float)
temperatures = st.decimals(1, 2, places=6).map(float)


def configs(teachers: st.SearchStrategy[RunConfig]) -> st.SearchStrategy[RunConfig]:
    all_teachers = teachers | st.sampled_from([PREVIOUS, UNIFORM])
    soft = st.builds(Distillation, all_teachers, temperatures, alphas, st.booleans(), st.just(False))
    hard = st.builds(Distillation, teachers, alpha=alphas, hard=st.just(True))
    others = teachers | st.just(PREVIOUS)
    decoupled = st.builds(
        Distillation, others, temperatures, alphas, st.booleans(), method=st.just("dkd"), beta=alphas,
        standardize=st.booleans(),
    )  # fmt: skip
    attention = st.builds(Distillation, others, growing=st.booleans(), method=st.just("at"), beta=alphas)
    layers = st.sets(st.from_regex(r"[a-z]{1,5}(\.[0-9])?", fullmatch=True), max_size=3)
    overrides = st.builds(
        TrainingOverrides,
        data_fraction=fractions,
        epochs_factor=fractions.map(lambda fraction: 100 * fraction),
        initial_weights=st.sampled_from(["", DIGEST]),
        frozen_layers=layers.map(lambda names: tuple(sorted(names))),
        equal_updates=st.booleans(),
        distillation=st.none() | soft | hard | decoupled | attention,
    )
    overrides = overrides.flatmap(
        lambda result: st.booleans().map(lambda drawn: replace(result, is_drawn=drawn and result.data_fraction < 1))
    )
    specs = st.sampled_from(["resnet8", "resnet8+se=8-se+cbam", "timm/resnet18", "timm/resnet18/224"])
    plain = st.builds(RunConfig, specs.map(parse), overrides)
    return plain | st.builds(_continued, plain, overrides)


def _continued(config: RunConfig, overrides: TrainingOverrides) -> RunConfig:
    """Return a config that starts from the final weights of another one."""
    return RunConfig(config.spec, replace(overrides, initial_weights="", initial_run=config))


nested_configs = configs(configs(st.just(read_run_config("resnet20"))))


def error_of(text: str) -> str:
    with pytest.raises(InputError) as raised:
        read_run_config(text, "resnet8")
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message


def read_or_error(text: str) -> RunConfig | InputError:
    try:
        return read_run_config(text, "resnet8")
    except InputError as error:
        return error


@pytest.mark.slow
@given(nested_configs)
def test_config_survives_a_round_trip_through_text(config: RunConfig) -> None:
    assert read_run_config(str(config)) == config
    assert read_run_config(str(config)).key == config.key


@given(st.text(alphabet="resnt8@=()/.:0123Tadlph\n\0", max_size=30))
def test_any_text_is_a_config_or_a_one_line_error(text: str) -> None:
    config = read_or_error(f"resnet8@teacher={text}")
    if isinstance(config, RunConfig):
        assert read_run_config(str(config)) == config
    else:
        assert len(str(config).splitlines()) == 1


def test_defaults_are_not_written() -> None:
    assert str(read_run_config("resnet8@data=1@epochs=1.0@teacher=(resnet20@data=1)@T=4@alpha=0.9")) == (
        "resnet8@teacher=(resnet20)"
    )
    assert str(read_run_config("resnet8@data=0.25@freeze=stem:layer1:stem")) == "resnet8@data=1/4@freeze=layer1:stem"


@pytest.mark.parametrize("value", ["0.000001", "0.123457", "0.999999"])
def test_numbers_keep_every_digit_and_have_no_exponent(value: str) -> None:
    text = f"resnet8@teacher=uniform@T=12.{value[2:]}@alpha={value}"
    assert str(read_run_config(text)) == text


def test_all_settings_are_read() -> None:
    config = read_run_config(f"{ALL}@growing")
    distillation = Distillation(read_run_config("resnet20@data=1/2"), 2.0, 0.5, growing=True)
    assert config.overrides == TrainingOverrides(
        data_fraction=Fraction(1, 4),
        epochs_factor=Fraction(2),
        initial_weights=DIGEST,
        frozen_layers=("layer1", "stem"),
        distillation=distillation,
    )
    assert config.overrides.teacher == distillation.teacher
    assert config.architecture == parse("resnet8").architecture


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@method=kd@T=4", Distillation(PREVIOUS)),
        ("@method=dkd", Distillation(PREVIOUS, 4.0, 1.0, method="dkd", beta=8.0)),
        ("@method=dkd@alpha=0", Distillation(PREVIOUS, 4.0, 0.0, method="dkd", beta=8.0)),
        ("@method=at", Distillation(PREVIOUS, method="at", beta=1000.0)),
        ("@standardize", Distillation(PREVIOUS, 2.0, standardize=True)),
        ("@standardize@T=4", Distillation(PREVIOUS, 4.0, standardize=True)),
        ("@method=dkd@standardize", Distillation(PREVIOUS, 2.0, 1.0, method="dkd", beta=8.0, standardize=True)),
    ],
)
def test_methods_have_the_defaults_of_their_papers(text: str, expected: Distillation) -> None:
    config = read_run_config(f"resnet8@teacher=previous{text}")
    assert config.overrides.distillation == expected
    assert read_run_config(str(config)) == config


def test_each_method_has_its_own_key_and_default_settings_do_not_change_it() -> None:
    texts = ("", "@standardize", "@standardize@T=4", "@method=dkd", "@method=dkd@standardize", "@method=dkd@beta=2",
             "@method=at", "@method=at@beta=2")  # fmt: skip
    keys = [read_run_config(f"resnet8@teacher=(resnet20){text}").key for text in texts]
    assert len(set(keys)) == len(texts)
    assert read_run_config("resnet8@teacher=(resnet20)@method=kd@alpha=0.9").key == keys[0]
    assert read_run_config("resnet8@teacher=(resnet20)@method=at@beta=1000").key == keys[6]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("@data=1/4@epochs=2@updates", "97f7e56a"),
        ("@teacher=(resnet20)", "7fb44eab"),
        ("@teacher=(resnet20)@T=2@alpha=0.5@growing", "12e65dc3"),
        ("@teacher=(resnet20)@hard", "13be6a6b"),
        ("@teacher=uniform@T=1@alpha=0.1", "d6b1b6ec"),
        ("@teacher=previous@T=1@alpha=0.8@growing", "223a38c0"),
        ("@teacher=(resnet8@teacher=(resnet20)@alpha=0.5)", "53fe8e4b"),
        ("@data=1/2", "b651b995"),
        ("@data=1/4@epochs=2@init=0123456789abcdef@freeze=stem", "78e56d43"),
    ],
)
def test_keys_of_records_from_before_settings_were_added(settings: str, key: str) -> None:
    assert read_run_config(f"resnet8{settings}").key.partition("-")[2] == key


def test_stand_ins_are_not_teacher_networks() -> None:
    assert read_run_config("resnet8@teacher=previous").overrides.teacher is None
    assert read_run_config("resnet8@teacher=uniform").overrides.distillation == Distillation(UNIFORM, 1.0)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_text_of_the_uniform_teacher_contains_its_temperature(temperature: float) -> None:
    config = read_run_config(f"resnet8@teacher=uniform@T={temperature:g}@alpha=0.1")
    assert config.overrides.distillation == Distillation(UNIFORM, temperature, 0.1)
    assert read_run_config(str(config)) == config


def test_default_temperature_of_the_uniform_teacher_is_that_of_label_smoothing() -> None:
    assert read_run_config("resnet8@teacher=uniform@alpha=0.1") == read_run_config(
        "resnet8@teacher=uniform@T=1@alpha=0.1"
    )


def chain(depth: int, setting: str) -> str:
    return "resnet8" + f"@{setting}=(resnet8" * depth + ")" * depth


@pytest.mark.parametrize("setting", ["teacher", "init"])
def test_depth_of_a_chain_is_limited(setting: str) -> None:
    deepest = read_run_config(chain(MAX_NESTING_DEPTH, setting))
    assert deepest.dependency_depth == deepest.nesting_depth == MAX_NESTING_DEPTH
    assert read_run_config(str(deepest)) == deepest
    assert f"more than {MAX_NESTING_DEPTH} configs" in error_of(chain(MAX_NESTING_DEPTH + 1, setting))
    assert f"more than {MAX_NESTING_DEPTH} configs" in error_of(chain(20_000, setting))


def test_initial_runs_and_teachers_are_dependencies() -> None:
    config = read_run_config("resnet8@data=1/2@init=(baseline@data=1/4@drawn)@teacher=(resnet20)", "resnet8")
    assert str(config) == "resnet8@data=1/2@init=(resnet8@data=1/4@drawn)@teacher=(resnet20)"
    assert [str(run) for run in config.dependencies] == ["resnet8@data=1/4@drawn", "resnet20"]
    assert [architecture.key() for architecture in config.architectures] == [
        parse(spec).architecture.key() for spec in ("resnet8", "resnet8", "resnet20")
    ]
    untrained = read_run_config(f"resnet8@teacher=(resnet20@init={DIGEST}@epochs=0)")
    assert untrained.dependencies == ()
    assert len(untrained.referenced) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("@dat=1/4", ["unknown setting 'dat'", "did you mean 'data'?", *SETTING_NAMES]),
        ("@lr=0.1", ["unknown setting 'lr'", "valid: "]),
        ("@", ["unknown setting ''"]),
        ("@data=1/4@data=1/2", ["'@data' is given twice", "'@data=1/4@data=1/2'"]),
        ("@teacher=previous@growing=1", ["'@growing' takes no value"]),
        ("@data", ["'@data' takes a value"]),
        ("@data=", ["'@data' takes a value"]),
        ("@init=", ["'@init' takes a value"]),
        ("@drawn", ["'@drawn'", "@data=1/4@drawn"]),
        ("@drawn@data=1", ["'@drawn'"]),
        ("@data=1/4@drawn=1", ["'@drawn' takes no value"]),
        ("@init=(resnet20)", ["'@init=(resnet20)'", "another architecture than resnet8"]),
        ("@init=(resnet8+se)", ["another architecture"]),
        ("@init=(resnet21)", ["unknown base 'resnet21'"]),
        ("@init=()", ["empty spec"]),
        ("@init=(resnet8", ["parentheses", "do not match"]),
        ("@init=(resnet8@epochs=0)", ["'@epochs=0'"]),
        (f"@init=(resnet8@init={DIGEST}@epochs=0)", ["without training", f"use @init={DIGEST}"]),
        (f"@init=(resnet8)@init={DIGEST}", ["'@init' is given twice"]),
        ("@teacher=(resnet20", ["parentheses", "do not match"]),
        ("@teacher=resnet20)", ["parentheses", "do not match"]),
        ("@teacher=(resnet20)(resnet8)", ["parentheses", "do not match"]),
        ("@data=0", ["'@data=0'", "greater than 0 and at most 1"]),
        ("@data=2", ["'@data=2'", "greater than 0 and at most 1", "1/4"]),
        ("@data=5/4", ["'@data=5/4'", "greater than 0 and at most 1"]),
        ("@data=1/0", ["'@data=1/0'", "greater than 0 and at most 1"]),
        ("@data=-1", ["greater than 0 and at most 1"]),
        ("@data=1e-3", ["greater than 0 and at most 1"]),
        ("@data=nan", ["greater than 0 and at most 1"]),
        ("@data=\u0661", ["greater than 0 and at most 1"]),
        ("@data=" + "9" * 5000, ["greater than 0 and at most 1"]),
        ("@data=1/" + "9" * 5000, ["greater than 0 and at most 1"]),
        ("@epochs=101", ["'@epochs=101'", "at least 0 and at most 100"]),
        ("@epochs=" + "9" * 5000, ["at least 0 and at most 100"]),
        ("@epochs=0", ["'@epochs=0'", "teacher", "(SPEC@init=FILE@epochs=0)"]),
        (f"@epochs=0@init={DIGEST}", ["'@epochs=0'", "teacher"]),
        ("@teacher=(resnet20@epochs=0)", ["'@epochs=0'", "teacher"]),
        (f"@teacher=(resnet20@init={DIGEST}@epochs=0@data=1/2)", ["'@epochs=0'", "teacher"]),
        ("@alpha=0.5", ["'@alpha' needs a '@teacher='"]),
        ("@hard", ["'@hard' needs a '@teacher='"]),
        ("@teacher=resnet20", ["'@teacher=resnet20'", "previous, uniform", "@teacher=(resnet20)"]),
        ("@teacher=uniform@hard", ["'@hard'", "'@teacher=uniform'"]),
        ("@teacher=(resnet20)@hard@T=2", ["'@hard'", "'@T'"]),
        ("@teacher=(resnet20)@hard@standardize", ["'@hard'", "'@standardize'"]),
        ("@teacher=(resnet20)@hard@method=dkd", ["'@hard'", "'@method'"]),
        ("@teacher=(resnet20)@method=dk", ["'dk'", "'@method=dk'", "did you mean 'dkd'?", "at, dkd, kd"]),
        ("@method=dkd", ["'@method' needs a '@teacher='"]),
        ("@teacher=uniform@method=dkd", ["'@teacher=uniform'", "'@method'"]),
        ("@teacher=uniform@method=at", ["'@teacher=uniform'", "'@method'"]),
        ("@teacher=uniform@standardize", ["'@teacher=uniform'", "'@standardize'"]),
        ("@teacher=(resnet20)@beta=8", ["'@beta'", "'@method=kd'", "T and alpha"]),
        ("@teacher=(resnet20)@method=at@T=2", ["'@T'", "'@method=at'", "beta"]),
        ("@teacher=(resnet20)@method=at@standardize", ["'@standardize'", "'@method=at'"]),
        ("@teacher=(resnet20)@standardize=1", ["'@standardize' takes no value"]),
        ("@teacher=(resnet20)@method=dkd@alpha=0@beta=0", ["'@alpha=0@beta=0'"]),
        ("@teacher=(resnet20)@method=dkd@beta=1001", ["'@beta=1001'", "from 0 to 1000"]),
        ("@teacher=(resnet20)@method=at@beta=0", ["'@beta=0'", "from 1e-06 to 100000"]),
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
def test_invalid_setting_is_explained_in_one_line(settings: str, expected: list[str]) -> None:
    message = error_of(f"resnet8{settings}")
    assert [fact for fact in expected if fact not in message] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "empty spec"), ("@data=1/4", "empty spec"), ("resnet9@data=1/4", "unknown base 'resnet9'")],
)
def test_config_starts_with_a_spec(text: str, expected: str) -> None:
    assert expected in error_of(text)
