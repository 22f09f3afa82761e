from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.layers import set_fused_attn
from timm.models.resnet import ResNet
from torch import nn

from arch.errors import InputError
from arch.net import ResidualNet
from benchmarks.benchmark import Benchmark
from benchmarks.budget.kind import kind_of
from benchmarks.budget.models import check_model, find_model
from benchmarks.progress import silent

ONE = """
from torch import nn
from torch.nn import Linear

class Net(nn.Sequential):
    def __init__(self, num_classes, in_chans):
        super().__init__(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(4, num_classes))
"""
MORE = (
    ONE
    + """
class Other(Net):
    pass

def build(num_classes):
    return Net(num_classes, 1)

def plain():
    return Net(10, 1)

def wrong():
    return "a net"

ready = Net(10, 1)
width = 4
"""
)


@pytest.fixture(autouse=True)
def _fused_attention_as_before() -> Iterator[None]:
    yield
    set_fused_attn(True)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    path = tmp_path / "one.py"
    path.write_text(ONE)
    return path


@pytest.fixture
def more(tmp_path: Path) -> Path:
    path = tmp_path / "more.py"
    path.write_text(MORE)
    return path


def built(text: str, benchmark: Benchmark) -> nn.Module:
    return find_model(text, benchmark).builder()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("resnet8", "spec"),
        ("baseline+se", "spec"),
        ("resnet8+se=8-se", "spec"),
        ("timm/resnet18", "timm"),
        ("resnet18d", "timm"),
        ("resnet8se", "timm"),
        ("", "timm"),
        ("net.py", "file"),
        ("folder/net.py:Net", "file"),
        ("net.py:build", "file"),
        ("resnet8.py", "file"),
    ],
)
def test_spelling_says_what_a_model_is(text: str, kind: str) -> None:
    assert kind_of(text) == kind


def test_our_name_comes_before_timms(tiny: Benchmark) -> None:
    assert find_model("resnet18", tiny).description == "resnet18 (our spec)"
    assert isinstance(built("resnet18", tiny), ResidualNet)


def test_timms_name_is_timms(tiny: Benchmark) -> None:
    assert find_model("timm/resnet18", tiny).description == "resnet18 (timm)"
    model = built("timm/resnet18", tiny)
    assert isinstance(model, ResNet)
    assert model.num_classes == 10


def test_other_words_are_timms(tiny: Benchmark) -> None:
    assert find_model("resnet10t", tiny).description == "resnet10t (timm)"


def test_a_model_of_fixed_size_is_built_for_the_benchmarks_images(tiny: Benchmark) -> None:
    wide = replace(tiny, data=replace(tiny.data, image_size=32))
    model = built("vit_tiny_patch16_224", wide)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_baseline_is_the_benchmarks(tiny: Benchmark) -> None:
    found = find_model("baseline+se", tiny)
    assert found.description == "baseline+se (our spec)"
    assert sum(p.numel() for p in found.builder().parameters()) > 77_754


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnt18", r"unknown model 'resnt18' \(our bases and timm's models\): did you mean 'resnet18'\?"),
        ("timm/resnet8", r"unknown model 'resnet8' of timm"),
        ("resnet8+see", r"unknown part 'see' at character 9 of 'resnet8\+see': did you mean 'se'\?"),
    ],
)
def test_unknown_names_name_the_nearest(tiny: Benchmark, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        find_model(text, tiny)


def test_a_file_with_one_class_needs_no_name(one: Path, tiny: Benchmark) -> None:
    assert find_model(str(one), tiny).description == f"{one}:Net (file)"
    assert built(str(one), tiny)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize("name", ["Net", "Other", "build", "plain", "ready"])
def test_a_file_gives_what_is_named(more: Path, tiny: Benchmark, name: str) -> None:
    model = built(f"{more}:{name}", tiny)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_a_file_with_several_models_names_them(more: Path, tiny: Benchmark) -> None:
    with pytest.raises(InputError, match=r"defines 3 models: name one, as .*more\.py:NAME \(Net, Other, ready\)"):
        find_model(str(more), tiny)


def test_a_file_without_models_says_so(tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "none.py").write_text("from torch.nn import Linear\n")
    with pytest.raises(
        InputError,
        match=r"defines 0 models: .*none\.py:NAME \(it defines no class and no function\)",
    ):
        find_model(str(tmp_path / "none.py"), tiny)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Nett",
            r"'Nett' in .*more\.py: did you mean 'Net'\? valid: Net, Other, build, plain, ready, wrong",
        ),
        ("width", "more.py:width is neither a torch Module nor something that builds one"),
        ("wrong", "more.py:wrong returned str, not a torch Module"),
    ],
)
def test_a_name_that_is_no_model_is_refused(more: Path, tiny: Benchmark, name: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        built(f"{more}:{name}", tiny)


def test_a_missing_file_is_named(tmp_path: Path, tiny: Benchmark) -> None:
    with pytest.raises(InputError, match=r"there is no file .*missing\.py"):
        find_model(str(tmp_path / "missing.py"), tiny)


def test_a_file_may_define_a_dataclass(tmp_path: Path, tiny: Benchmark) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    (tmp_path / "one.py").write_text(head + ONE + "\n@dataclass\nclass Config:\n    width: int = 4\n")
    built(str(tmp_path / "one.py"), tiny)


def test_a_file_may_import_its_neighbours(tmp_path: Path, tiny: Benchmark) -> None:
    (tmp_path / "neighbour_of_one.py").write_text("width = 4\n")
    (tmp_path / "one.py").write_text("from neighbour_of_one import width\n" + ONE)
    built(str(tmp_path / "one.py"), tiny)


def test_a_found_model_is_judged(one: Path, tiny: Benchmark) -> None:
    verdict = check_model(silent, str(one), tiny, "cpu", None)
    assert verdict.passed
    assert verdict.model == f"{one}:Net (file)"
    assert verdict.cost.params == (9 * 4 + 4) + (4 * 10 + 10)
