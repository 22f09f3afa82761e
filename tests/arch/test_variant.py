import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import pytest

import arch
from arch.bases import BASES
from arch.spec import parse
from arch.variant import Variant

BASIC = Variant((1, 2), (16, 32), (1, 2), stem_width=16)
BOTTLENECK = replace(BASIC, block="bottleneck")
CHANGES: dict[str, Any] = {
    "depths": (2, 1),
    "widths": (32, 32),
    "strides": (2, 2),
    "stem_width": 8,
    "block": "basic",
    "order": "pre",
    "shortcut": "pad",
    "stem": "deep",
    "growth": 8,
    "groups": 2,
    "inner_ratio": 2.0,
    "attention": ("se",),
    "attention_stages": (2,),
    "act": "silu",
    "scale": 2,
    "blurpool": True,
    "weight_standardization": True,
    "layer_scale": 0.1,
    "drop_path": 0.1,
    "shakedrop": 0.5,
    "drop_block": 0.1,
    "dropout": 0.1,
    "pool": "gem",
}


def pyramid(depths: tuple[int, ...], growth: int) -> Variant:
    return Variant(depths, (16,) * len(depths), (1,) * len(depths), 16, order="pyramid", growth=growth)


def test_without_growth_every_block_of_a_stage_has_its_stages_width() -> None:
    assert Variant((1, 3), (16, 64), (1, 2), 16).block_widths() == ((16,), (64, 64, 64))


@pytest.mark.parametrize(("depths", "growth"), [((2, 2, 2), 6), ((18,) * 3, 270), ((22,) * 3, 240), ((1, 4, 2), 101)])
def test_pyramid_widths_grow_in_equal_steps_from_the_start_to_start_plus_growth(
    depths: tuple[int, ...], growth: int
) -> None:
    widths = sum(pyramid(depths, growth).block_widths(), ())
    step = Fraction(growth, sum(depths))
    assert list(widths) == [floor(16 + step * (block + 1)) for block in range(sum(depths))]
    assert list(widths) == sorted(set(widths))
    assert widths[-1] == 16 + growth


def test_pyramid_widths_keep_growing_where_a_new_stage_starts() -> None:
    assert pyramid((2, 1, 3), 12).block_widths() == ((18, 20), (22,), (24, 26, 28))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"depths": (1,)}, "one entry per stage"),
        ({"widths": (16, 32, 64)}, "one entry per stage"),
        ({"strides": (1,)}, "one entry per stage"),
        ({"depths": (1, 0)}, "at least 1"),
        ({"widths": (-16, 32)}, "at least 1"),
        ({"strides": (0, 2)}, "at least 1"),
        ({"stem_width": 0}, "at least 1"),
        ({"groups": 0}, "at least 1"),
        ({"block": "basic", "groups": 2}, "groups require bottleneck blocks"),
        ({"groups": 3}, "3 groups do not divide 16 channels"),
        ({"groups": 32}, "32 groups do not divide 16 channels"),
        ({"groups": 16, "growth": 2}, "16 groups do not divide"),
        ({"groups": 16, "inner_ratio": 0.5}, "16 groups do not divide 8 channels"),
        ({"attention_stages": (3,)}, "attention_stages must be from 1 to 2"),
        ({"attention_stages": (0, 1)}, "attention_stages must be from 1 to 2"),
        ({"block": "conv", "groups": 2}, "groups require bottleneck blocks"),
        ({"block": "conv", "order": "pre"}, "order pre requires residual blocks"),
        ({"block": "conv", "order": "pyramid"}, "order pyramid requires residual blocks"),
        ({"block": "conv", "shortcut": "avg"}, "shortcut avg requires residual blocks"),
        ({"block": "conv", "drop_path": 0.1}, "drop_path 0.1 requires residual blocks"),
        ({"block": "conv", "shakedrop": 0.5}, "shakedrop 0.5 requires residual blocks"),
        ({"block": "conv", "layer_scale": 0.1}, "layer_scale 0.1 requires residual blocks"),
        ({"scale": 0}, "at least 1"),
        ({"block": "basic", "scale": 2}, "res2net requires bottleneck blocks"),
        ({"block": "conv", "scale": 2}, "res2net requires bottleneck blocks"),
        ({"scale": 2, "order": "pre"}, "res2net requires blocks with post-activation, not pre"),
        ({"scale": 2, "order": "pyramid"}, "res2net requires blocks with post-activation, not pyramid"),
        ({"scale": 2, "blurpool": True}, "res2net cannot be combined with blurpool"),
        ({"scale": 4, "groups": 8}, "8 groups do not divide 4 channels"),
        ({"scale": 4, "inner_ratio": 0.1}, "a width of 16 channels cannot be split into 4 scales"),
        ({"drop_path": 0.1, "shakedrop": 0.5}, "use one of them"),
        ({"shortcut": "pad", "stem_width": 65}, "cannot reduce channels"),
        ({"shortcut": "pad", "widths": (32, 16)}, "cannot reduce channels"),
        ({"shortcut": "pad", "widths": (32, 32), "growth": -3}, "cannot reduce channels"),
    ],
)
def test_fields_that_contradict_each_other_raise(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(BOTTLENECK, **fields)


def test_groups_that_divide_every_blocks_inner_width_are_taken() -> None:
    assert replace(BOTTLENECK, groups=32, inner_ratio=2.0).groups == 32


def test_a_variant_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        BASIC.act = "silu"  # type: ignore[misc]


def test_equal_variants_are_one_dictionary_key() -> None:
    assert {BASIC: 1, replace(BASIC, act="silu"): 2}[replace(BASIC)] == 1


def test_every_field_has_a_change_below() -> None:
    assert set(CHANGES) == {field.name for field in fields(Variant)}


def test_a_key_differs_whichever_field_differs() -> None:
    keys = {replace(BOTTLENECK, **{name: value}).key() for name, value in CHANGES.items()}
    assert len(keys - {BOTTLENECK.key()}) == len(CHANGES)


def test_no_two_bases_share_a_key() -> None:
    assert len({base.variant.key() for base in BASES.values()}) == len(BASES)


def test_a_key_has_sixteen_hexadecimal_digits() -> None:
    assert len(BASIC.key()) == 16
    assert int(BASIC.key(), 16) >= 0


def test_attention_in_another_order_is_another_key() -> None:
    assert replace(BASIC, attention=("se", "eca")).key() != replace(BASIC, attention=("eca", "se")).key()


def test_a_field_added_later_changes_no_old_key() -> None:
    @dataclass(frozen=True)
    class Later(Variant):
        added: int = 0

    assert Later((1, 2), (16, 32), (1, 2), 16).key() == BASIC.key()
    assert Later((1, 2), (16, 32), (1, 2), 16, added=1).key() != BASIC.key()


def test_equal_variants_have_equal_keys_when_one_was_given_an_int_for_a_float() -> None:
    whole, fraction = replace(BASIC, inner_ratio=2), replace(BASIC, inner_ratio=2.0)
    assert whole == fraction
    assert whole.key() == fraction.key()


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ("resnet18", "91fd8697d974d977"),
        ("resnet50", "1facc60c829833de"),
        ("wrn16_8", "8f6f846db21cffc8"),
        ("pyramidnet110", "05b33b3d6eb72434"),
        ("resnext50+se=8+cbam", "6d324ab368a6f028"),
        ("seresnet50d_s1", "612104b4296899a3"),
        ("resnet20+width=1.5+depth=2+gem+drop_path", "303e44ec2f672311"),
        ("wrn28_10+eca+blurpool+dropout+stem", "d479ea530d4e5cff"),
        ("resnet50+width=0.7+groups=8+pad_shortcut", "4876eda7034f4122"),
    ],
)
def test_a_key_never_changes(spec: str, key: str) -> None:
    assert parse(spec).variant().key() == key


@pytest.mark.parametrize(
    ("stages", "layers"), [((), [("se",), ("se",)]), ((2,), [(), ("se",)]), ((1, 2), [("se",), ("se",)])]
)
def test_attention_stands_in_the_stages_named_or_in_all(stages: tuple[int, ...], layers: list[tuple[str, ...]]) -> None:
    variant = replace(BASIC, attention=("se",), attention_stages=stages)
    assert [variant.attention_in(stage) for stage in (1, 2)] == layers


def test_keys_are_the_same_in_processes_with_another_hash_seed() -> None:
    code = "from arch.bases import BASES; print(*(base.variant.key() for base in BASES.values()))"
    for seed in "1", "2":
        env = os.environ | {"PYTHONHASHSEED": seed}
        root = Path(arch.__file__).parents[1]
        out = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=root, capture_output=True, text=True, check=True
        )
        assert out.stdout.split() == [base.variant.key() for base in BASES.values()]


@pytest.mark.parametrize("field", ["block", "order", "shortcut", "stem", "pool"])
def test_a_word_that_is_no_choice_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be one of "):
        replace(BASIC, **{field: "foo"})  # type: ignore[arg-type]


def test_a_net_has_a_stage() -> None:
    with pytest.raises(ValueError, match="one entry per stage"):
        Variant((), (), (), stem_width=8)
