import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from arch.bases import BASES
from arch.timm_model import TimmModel


def test_a_key_follows_from_name_and_size_alone() -> None:
    models = [TimmModel("resnet18"), TimmModel("resnet18", 224), TimmModel("resnet18", 32), TimmModel("resnet34")]
    assert len({model.key() for model in models}) == len(models)
    assert TimmModel("resnet18", 224).key() == TimmModel("resnet18", 224).key()
    assert TimmModel("resnet18", 0).key() == TimmModel("resnet18").key()


def test_keys_never_change() -> None:  # records are identified by these keys
    assert TimmModel("resnet18").key() == "715c352a8c96f1da"
    assert TimmModel("resnet18", 224).key() == "d42c005090956255"


def test_no_variant_has_the_key_of_a_timm_model() -> None:
    variants = {base.variant.key() for base in BASES.values()}
    assert not variants & {TimmModel(name).key() for name in (*BASES, "resnet18")}
    assert len(TimmModel("resnet18").key()) == len(next(iter(variants)))


def test_it_is_frozen_data_with_a_size_that_can_be() -> None:
    with pytest.raises(FrozenInstanceError):
        TimmModel("resnet18").name = "resnet34"  # type: ignore[misc]
    with pytest.raises(ValueError, match="at least 0"):
        TimmModel("resnet18", -1)


def test_it_is_made_without_torch() -> None:
    program = "import sys, arch.timm_model as t; t.TimmModel('x').key(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
