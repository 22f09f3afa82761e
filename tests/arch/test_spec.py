import random
import subprocess
import sys
from pathlib import Path

import pytest

import arch
from arch.bases import BASES
from arch.errors import InputError, unknown
from arch.parts import PARTS
from arch.plans import PLANS
from arch.spec import Spec, Step, parse
from arch.timm_model import TimmModel

JUNK = "+-=._/ eE0123456789aszé\u00a0\u2028\u0661\uff18\n\r\t\0\x1b\x85😀\ud800"
VALUES = ["", "0", "1", "2", "8", "16", "32", "0.1", "0.5", ".25", "1e-2", "1E1", "1e+0", "3e-1", "1e999"]
VALUES += ["-1", "nan", "inf", "x", "1_6", "deep", "conv7_pool", "patch2", "34", "123", "wrn16_8", "basic"]


def key(text: str, baseline: str | None = None) -> str:
    return parse(text, baseline).variant().key()


def refusal(text: str, baseline: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        parse(text, baseline)
    return str(caught.value)


@pytest.mark.parametrize("base", BASES)
def test_a_base_alone_is_its_variant(base: str) -> None:
    spec = parse(base)
    assert spec == Spec(base)
    assert spec.variant() == BASES[base].variant
    assert [str(row) for row in spec.path()] == [base]


def test_steps_stand_in_the_order_they_are_written() -> None:
    steps = parse("resnet8+se=8-se+drop_path+stem=patch2").steps
    assert steps == (Step("+", "se", 8), Step("-", "se"), Step("+", "drop_path", 0.1), Step("+", "stem", "patch2"))


def test_a_path_adds_one_step_a_row() -> None:
    path = parse("resnet8+se-se+cbam=8").path()
    assert [str(row) for row in path] == ["resnet8", "resnet8+se", "resnet8+se-se", "resnet8+se-se+cbam=8"]
    assert [row.variant().attention for row in path] == [(), ("se",), (), ("cbam=8",)]


def test_the_steps_label_the_rows() -> None:
    assert [str(step) for step in parse("resnet8+se-se+cbam=8").steps] == ["+se", "-se", "+cbam=8"]


def test_the_baselines_own_steps_belong_to_the_first_row() -> None:
    spec = parse("baseline+se-avg_down", "resnet8+avg_down+drop_path=0.2")
    first = "resnet8+avg_down+drop_path=0.2"
    assert [str(row) for row in spec.path()] == [first, f"{first}+se", f"{first}+se-avg_down"]
    assert spec.variant() == parse("resnet8+drop_path=0.2+se").variant()


def test_every_row_of_a_path_starts_where_the_whole_does() -> None:
    rows = parse("baseline+se+cbam", "resnet8+avg_down").path()
    assert [len(row.path()) for row in rows] == [1, 2, 3]
    assert {str(row.path()[0]) for row in rows} == {"resnet8+avg_down"}


def test_the_baseline_alone_is_one_row() -> None:
    assert [str(row) for row in parse("baseline", "resnet8+se").path()] == ["resnet8+se"]


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("timm/resnet18", TimmModel("resnet18")),
        ("timm/resnet18/224", TimmModel("resnet18", 224)),
        ("timm/vit_tiny_patch16_224/16", TimmModel("vit_tiny_patch16_224", 16)),
    ],
)
def test_a_model_of_timms_is_one_row_with_its_own_size(text: str, model: TimmModel) -> None:
    spec = parse(text)
    assert spec.architecture == model
    assert str(spec) == text
    assert [str(row) for row in spec.path()] == [text]
    assert spec.simplified() == spec


def test_a_model_of_timms_can_be_the_baseline() -> None:
    assert parse("baseline", "timm/resnet18/64").architecture == TimmModel("resnet18", 64)
    assert "takes no parts" in refusal("baseline+se", "timm/resnet18")


def test_a_spec_of_ours_describes_its_variant() -> None:
    assert parse("resnet8+se").architecture == parse("resnet8+se").variant()


@pytest.mark.parametrize("name", PLANS)
def test_a_plans_name_is_its_whole_spec_with_every_row(name: str) -> None:
    spec = parse(name)
    assert spec == parse(PLANS[name].spec)
    assert spec.start == 0
    assert len(spec.path()) == len(spec.steps) + 1 > 1
    assert str(spec.path()[0]) == spec.base


def test_a_step_after_a_plans_name_is_one_more_row() -> None:
    rows = [str(row) for row in parse("seresnet50d_s1+cbam").path()]
    assert rows == [*(str(row) for row in parse("seresnet50d_s1").path()), PLANS["seresnet50d_s1"].spec + "+cbam"]


def test_a_plans_own_steps_can_be_taken_back_but_not_added_again() -> None:
    assert parse("seresnet50d_s1-se").variant().attention == ()
    assert "was already added" in refusal("seresnet50d_s1+se")


def test_a_plan_as_the_baseline_is_the_first_row() -> None:
    rows = parse("baseline+cbam", "seresnet50d_s1").path()
    assert [str(row) for row in rows] == [PLANS["seresnet50d_s1"].spec, PLANS["seresnet50d_s1"].spec + "+cbam"]


def test_an_unknown_base_names_bases_and_plans() -> None:
    assert "did you mean 'seresnet50d_s1'?" in refusal("seresnet50d")
    message = refusal("zzz")
    assert all(name in message for name in (*BASES, *PLANS))


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("resnet8+se=16", "resnet8+se"),
        ("resnet8+se=8", "resnet8+se=8"),
        ("resnet8+se=008", "resnet8+se=8"),
        ("resnet8+drop_path=0.10", "resnet8+drop_path"),
        ("resnet8+drop_path=1e-1", "resnet8+drop_path"),
        ("resnet8+drop_path=1e-2", "resnet8+drop_path=0.01"),
        ("resnet8+width=2.0", "resnet8+width"),
        ("resnet8+width=3.0", "resnet8+width=3"),
        ("resnet8+width=1.5E+0", "resnet8+width=1.5"),
        ("resnet8+stem=deep", "resnet8+stem"),
        ("resnet8+stem=conv7", "resnet8+stem=conv7"),
        ("resnet50+groups=32", "resnet50+groups"),
        ("resnet8+se=16-se", "resnet8+se-se"),
        ("resnet8+se+attention_stages=34", "resnet8+se+attention_stages"),
        ("resnet8+se+attention_stages=12-se", "resnet8+se+attention_stages=12-se"),
        ("resnet8+backbone=resnet18", "resnet8+backbone"),
        (
            "resnet8+backbone=wrn16_8+depth2=2.0+width3=1.50-backbone",
            "resnet8+backbone=wrn16_8+depth2+width3=1.5-backbone",
        ),
        ("resnet8+block=bottleneck", "resnet8+block"),
    ],
)
def test_a_spec_prints_without_the_values_that_are_defaults(written: str, canonical: str) -> None:
    assert str(parse(written)) == canonical
    assert parse(canonical) == parse(written)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_with_its_default_prints_as_its_name(name: str) -> None:
    default = PARTS[name].value.default if PARTS[name].value else None  # type: ignore[union-attr]
    written = f"resnet50+{name}" + ("" if default is None else f"={default}")
    assert str(parse(written)) == f"resnet50+{name}"
    assert parse(written) == parse(f"resnet50+{name}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("resnet8+se=4", 4),
        ("resnet8+drop_path=0.25", 0.25),
        ("resnet8+drop_path=.25", 0.25),
        ("resnet8+drop_path=1e-2", 0.01),
        ("resnet8+drop_path=2E-1", 0.2),
        ("resnet8+width=1e+1", 10.0),
        ("resnet8+width=3", 3.0),
        ("resnet8+drop_path=0", 0.0),
        ("resnet8+stem=conv3_pool", "conv3_pool"),
        ("resnet8+attention_stages=12", "12"),
        ("resnet8+backbone=wrn16_8", "wrn16_8"),
        ("resnet8+depth2=3", 3.0),
    ],
)
def test_values_are_read_as_whole_numbers_fractions_exponents_and_words(text: str, value: float | int | str) -> None:
    (step,) = parse(text).steps
    assert step.value == value
    assert type(step.value) is type(value)


def test_a_step_may_follow_an_exponent() -> None:
    assert [str(step) for step in parse("resnet8+drop_path=1e-2-drop_path+se").steps][1:] == ["-drop_path", "+se"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("resnet8+se", "resnet8+se=16"),
        ("resnet8+width=2+depth=2", "resnet8+depth=2+width=2"),
        ("resnet8+avg_down+se", "resnet8+se+avg_down"),
        ("resnet8+se-se", "resnet8"),
        ("resnet8+se+cbam-se", "resnet8+cbam"),
        ("resnet8+se=8-se+se", "resnet8+se"),
        ("resnet8+se+cbam-se+se", "resnet8+cbam+se"),
        ("resnet8+relu", "resnet8"),
        ("resnet8+gelu+relu", "resnet8"),
        ("resnet8+gelu+silu", "resnet8+silu"),
        ("resnet8+drop_path=0", "resnet8"),
        ("resnet8+width=1", "resnet8"),
        ("resnet8+depth=1.0", "resnet8"),
        ("resnet8+stem=conv3", "resnet8"),
        ("resnet8+drop_path=1e-2", "resnet8+drop_path=0.01"),
        ("resnet50+groups=1", "resnet50"),
        ("resnet8+depth=3", "resnet20"),
        ("resnet18+preact", "preact_resnet18"),
        ("resnet50+preact", "preact_resnet50"),
        ("resnet50+preact", "preact_resnet18+depth1=1.5+depth2=2+depth3=3+depth4=1.5+block"),
        ("wrn16_8+preact", "resnet18+backbone=wrn16_8"),
        ("resnet8+depth=2", "resnet8+depth1=2+depth2=2+depth3=2"),
        ("resnet8+attention_stages=12", "resnet8"),
        ("resnet8+se+attention_stages=123", "resnet8+se"),
        ("resnet8+se+attention_stages=34", "resnet8+se+attention_stages=3"),
        ("resnet8+se+attention_stages=12-se", "resnet8"),
        ("resnet18+se+attention_stages=34+backbone=resnet8", "resnet8+se+attention_stages=3"),
        ("resnet18+se+attention_stages=123+backbone=resnet8", "resnet8+se"),
        ("resnet18+backbone=resnet8", "resnet8"),
    ],
)
def test_two_spellings_of_one_architecture_are_one_key(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize("text", ["baseline", "baseline+se-se", "baseline+se=8-se", "baseline-avg_down+avg_down"])
def test_what_is_taken_back_leaves_the_baselines_key(text: str) -> None:
    assert key(text, "resnet8+avg_down") == key("resnet8+avg_down")


@pytest.mark.parametrize(
    ("text", "canonical", "tag"),
    [
        ("timm/resnet18", "timm/resnet18", ""),
        ("timm/resnet18.a1_in1k", "timm/resnet18", "a1_in1k"),
        ("timm/resnet18.a1_in1k/64", "timm/resnet18/64", "a1_in1k"),
        ("timm/vit_x.a.b_c", "timm/vit_x", "a.b_c"),
    ],
)
def test_a_tag_is_not_part_of_the_architecture(text: str, canonical: str, tag: str) -> None:
    spec = parse(text)
    assert (str(spec), spec.tag) == (canonical, tag)
    assert spec == parse(canonical)
    assert spec.architecture == parse(canonical).architecture
    assert [first.tag for first in spec.path()] == [tag]


def test_different_architectures_have_different_keys() -> None:
    steps = ["", "+se", "+se=8", "+cbam", "+se+cbam", "+cbam+se", "+gelu", "+drop_path", "+drop_path=0.2", "+dropout"]
    steps += ["+width=2", "+depth=2", "+width=2+depth=2", "+stem", "+stem=conv7", "+last_stride", "+gem", "+preact"]
    texts = [base + step for base in ("resnet18", "resnet50", "wrn16_8+gca") for step in steps]
    assert len({key(text) for text in texts}) == len(texts) - 1  # wrn16_8 is already pre-activation
    assert key("wrn16_8+gca+preact") == key("wrn16_8+gca")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["empty spec"]),
        ("  \n", ["empty spec"]),
        ("resnet19", ["unknown base 'resnet19'", "character 1 ", "did you mean 'resnet18'?", "wrn28_10"]),
        ("alexnet+se", ["unknown base 'alexnet'", "valid: ", "resnet8"]),
        ("resnet18+sse", ["unknown part 'sse'", "character 10 ", "did you mean 'se'?", "cbam"]),
        ("resnet18+se-cbm", ["unknown part 'cbm'", "character 13 ", "did you mean 'cbam'?"]),
        ("resnet18+xyzzy", ["unknown part 'xyzzy'", "character 10 ", "valid: "]),
        ("resnet18+SE", ["unknown part 'SE'", "did you mean 'se'?"]),
        ("ResNet18+se", ["unknown base 'ResNet18'", "did you mean 'resnet18'?"]),
        ("resnet18++se", ["missing part name", "character 10 ", "'resnet18++se'"]),
        ("resnet18+", ["missing part name", "character 10 "]),
        ("resnet18-", ["missing part name", "character 10 "]),
        ("resnet18+se+=3", ["missing part name", "character 13 "]),
        ("resnet18+se+cbam+se", ["'se'", "character 18 ", "already added", "'-se'"]),
        ("resnet18+se=8+se=4", ["'se'", "character 15 ", "already added"]),
        ("resnet18-se", ["'se'", "character 10 ", "it was not added"]),
        ("resnet18+se-se-se", ["'se'", "character 16 ", "it was not added"]),
        ("resnet18+se-se=3", ["'-se'", "character 13 ", "takes no value"]),
        ("resnet18+se-se=", ["'-se'", "takes no value"]),
        ("resnet18+avg_down=2", ["'avg_down'", "character 10 ", "takes no value"]),
        ("resnet18+avg_down=", ["'avg_down'", "takes no value"]),
        ("resnet18+se=65", ["'se'", "'65'", "a whole number from 1 to 64"]),
        ("resnet18+se=0", ["'se'", "'0'", "a whole number from 1 to 64"]),
        ("resnet18+se=1.5", ["'se'", "'1.5'", "a whole number"]),
        ("resnet18+se=", ["'se'", "''", "a whole number"]),
        ("resnet18+se=big", ["'se'", "'big'", "a whole number"]),
        ("resnet18+se=" + "9" * 5000, ["'se'", "999", "a whole number"]),
        ("resnet18+drop_path=0.91", ["'drop_path'", "'0.91'", "a number from 0 to 0.9"]),
        ("resnet18+drop_path=-0.1", ["'drop_path'", "=-0.1", "a number from 0 to 0.9"]),
        ("resnet18+drop_path=1e", ["'drop_path'", "'1e'", "a number"]),
        ("resnet18+drop_path=nan", ["'drop_path'", "'nan'", "a number"]),
        ("resnet18+width=inf", ["'width'", "'inf'", "a number from 0.1 to 16"]),
        ("resnet18+width=1e999", ["'width'", "'1e999'", "a number"]),
        ("resnet18+last_stride=3", ["'last_stride'", "'3'", "a whole number from 1 to 2"]),
        ("resnet18+stem=conv5", ["'stem'", "'conv5'", "one of ", "conv7_pool"]),
        ("resnet18+stem=2", ["'stem'", "'2'", "one of "]),
        ("timm/resnet18+se", ["'timm/resnet18' takes no parts", "resnet8, "]),
        ("timm/resnet18/224-se", ["'se'", "character 19 ", "it was not added"]),
        ("timm/", ["'timm/'", "timm/NAME or timm/NAME/PIXELS", "timm/resnet18/224"]),
        ("timm//224", ["'timm//224'", "timm/NAME/PIXELS"]),
        ("timm/resnet18/", ["'timm/resnet18/'", "timm/NAME/PIXELS"]),
        ("timm/resnet18/x", ["'timm/resnet18/x'", "timm/NAME/PIXELS"]),
        ("timm/resnet18.", ["'timm/resnet18.'", "timm/NAME/PIXELS"]),
        ("timm/.a1_in1k", ["'timm/.a1_in1k'", "timm/NAME/PIXELS"]),
        ("timm/resnet18/224/1", ["'timm/resnet18/224/1'", "timm/NAME/PIXELS"]),
        ("timm/resnet18/" + "9" * 5000, ["timm/NAME/PIXELS"]),
        ("timm/resnet18/15", ["'timm/resnet18/15'", "16 to 1024 pixels"]),
        ("timm/resnet18/1025", ["'timm/resnet18/1025'", "16 to 1024 pixels"]),
        ("timm/resnet18/0", ["'timm/resnet18/0'", "16 to 1024 pixels"]),
        ("timm/res\nnet18", ["'+part' or '-part'", r"'timm/res\nnet18'"]),
        ("timm", ["unknown base 'timm'"]),
        ("baseline", ["unknown base 'baseline'"]),
        ("baseline+se", ["unknown base 'baseline'"]),
        ("resnet18+groups", ["'+groups'", "bottleneck", "resnet50"]),
        ("resnet18+groups=2", ["'+groups=2'", "bottleneck"]),
        ("resnet50+groups=3", ["'+groups=3'", "3 groups do not divide 64 channels"]),
        ("resnet50+groups=64+width=0.5-groups+groups=128", ["'+groups=128'", "128 groups do not divide 32 channels"]),
        ("resnet8+depth4", ["'+depth4'", "there are 3 stages"]),
        ("resnet8+width4=0.5", ["'+width4=0.5'", "there are 3 stages"]),
        ("resnet8+se+attention_stages=4", ["'+attention_stages=4'", "there are 3 stages"]),
        ("resnet18+se+attention_stages=4+backbone=resnet8", ["'+backbone=resnet8'", "there are 3 stages"]),
        ("resnet18+se+attention_stages=43", ["'attention_stages'", "'43'", "one of ", "34, "]),
        ("resnet18+backbone=resnet19", ["'backbone'", "'resnet19'", "one of ", "wrn16_8"]),
        ("resnext50+block=basic", ["'+block=basic'", "groups require bottleneck"]),
        ("resnet18+pad_shortcut+width1=0.5", ["'+width1=0.5'", "cannot reduce channels"]),
        ("resnet18 +se", ["'+part' or '-part'", "character 9 "]),
        ("resnet18+se=8=9", ["'+part' or '-part'", "character 14 "]),
        ("resnet18+se \n", [r"unknown part 'se \n'", "did you mean 'se'?"]),
        ("resnet18+\u2028se", [r"'\u2028se'"]),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(text: str, says: list[str]) -> None:
    message = refusal(text)
    assert len(message.splitlines()) == 1
    assert [words for words in says if words not in message] == []


@pytest.mark.parametrize(
    ("text", "baseline", "says"),
    [
        ("baseline++se", "resnet18", ["missing part name", "character 10 ", "'baseline++se'"]),
        ("baselin+se", "resnet18", ["unknown base 'baselin'", "did you mean 'baseline'?"]),
        ("baseline+se", "resnet18+se", ["'se'", "character 10 ", "already added"]),
        ("baseline-se", "resnet18", ["'se'", "character 10 ", "it was not added"]),
        ("baseline+groups", "resnet18", ["'+groups'", "bottleneck"]),
        ("baseline", "resnet19", ["unknown base 'resnet19'", "did you mean 'resnet18'?"]),
    ],
)
def test_what_does_not_fit_the_baseline_is_named_in_one_line(text: str, baseline: str, says: list[str]) -> None:
    message = refusal(text, baseline)
    assert len(message.splitlines()) == 1
    assert [words for words in says if words not in message] == []


def test_a_step_that_no_longer_fits_once_another_is_taken_back_is_refused() -> None:
    assert "'+groups=128' does not fit" in refusal("resnet50+width=2+groups=128-width")


def test_of_many_names_only_the_nearest_and_their_number_are_said() -> None:
    message = str(unknown("word", "w07x", [f"w{number:02}" for number in range(70)]))
    assert message == "unknown word 'w07x': did you mean 'w07'? there are 70 valid names"


def fuzzed(rng: random.Random) -> str:
    """Return a random spec or plan with up to three characters changed."""
    text = rng.choice([*BASES, *PLANS, "baseline", "timm/resnet18", ""])
    for _ in range(rng.randrange(6)):
        text += rng.choice("++-") + rng.choice(list(PARTS))
        text += "=" + rng.choice(VALUES) if rng.random() < 0.4 else ""
    for _ in range(rng.choice([0, 0, 1, 3])):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(JUNK) + text[place + rng.randrange(2) :]
    return text


def attempt(text: str, baseline: str | None) -> Spec | InputError:
    try:
        return parse(text, baseline)
    except InputError as error:
        return error


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_a_spec_or_a_refusal_in_one_line(seed: int) -> None:
    rng = random.Random(seed)
    read = 0
    for text in (fuzzed(rng) for _ in range(3000)):
        spec = attempt(text, rng.choice([None, "resnet8+avg_down"]))
        if isinstance(spec, InputError):
            assert len(str(spec).splitlines()) == 1, text
        else:
            read += 1
            assert parse(str(spec)).architecture == spec.architecture, text
            assert str(parse(str(spec))) == str(spec), text
            assert spec.path()[-1].architecture == spec.architecture, text
    assert 300 < read < 2700  # both outcomes occurred


@pytest.mark.parametrize("seed", range(2))
def test_any_junk_is_refused_in_one_line(seed: int) -> None:
    rng = random.Random(seed)
    for length in range(500):
        text = "".join(rng.choices(JUNK, k=length % 40))
        assert len(refusal(text).splitlines()) == 1, text


@pytest.mark.parametrize("value", ["0.1234567", "0.3333333333333333", "1.2345678e-3", "2.5e-7"])
def test_a_printed_spec_keeps_every_digit_of_its_values(value: str) -> None:
    spec = parse(f"resnet8+drop_path={value}")
    assert parse(str(spec)).variant() == spec.variant()


def test_specs_are_read_without_torch() -> None:
    code = (
        "import sys, arch.errors, arch.variant, arch.bases, arch.parts, arch.spec;"
        "arch.spec.parse('resnet50+se+groups=2').variant().key();"
        "print(sorted({'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    root = Path(arch.__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("resnet8+relu+se", "resnet8+se"),
        ("resnet8+attention_stages=34+se", "resnet8+se"),
        ("resnet8+se+cbam-se", "resnet8+se+cbam-se"),
        ("resnet8", "resnet8"),
    ],
)
def test_steps_that_change_nothing_can_be_left_out(text: str, simple: str) -> None:
    assert str(parse(text).simplified()) == simple
    assert parse(text).simplified().variant() == parse(text).variant()
