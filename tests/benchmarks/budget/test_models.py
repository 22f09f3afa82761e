from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.models.resnet import ResNet
from torch import nn

from arch.errors import InputError
from arch.net import ResidualNet
from arch.timm_net import TimmNet
from benchmarks.budget.model_kind import kind_of, split_file
from benchmarks.budget.models import check_model, find_model
from benchmarks.budget.request import CheckRequest
from benchmarks.definition.benchmark import Benchmark, Budget
from benchmarks.execution.progress import silent


def build(text: str, benchmark: Benchmark) -> nn.Module:
    return find_model(text, benchmark).builder()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("resnet8", "spec"),
        ("baseline+se", "spec"),
        ("resnet8+se=8-se", "spec"),
        ("seresnet50d_s1", "spec"),
        ("seresnet50d_s1+cbam", "spec"),
        ("seresnet50d", "timm"),
        ("timm/resnet18", "timm"),
        ("resnet18d", "timm"),
        ("resnet8se", "timm"),
        ("x" * 300, "timm"),  # exceeds the maximum length of a file name
        ("net.py", "file"),
        ("folder/net.py:Net", "file"),
        ("net.py:build", "file"),
        ("resnet8.py", "file"),
        ("net.safetensors", "file"),
        ("folder/net.pt", "file"),
        ("net.pth", "file"),
        ("net.bin", "file"),
        ("net.onnx", "file"),
        ("net.pt2", "file"),
        ("net.th", "file"),
        ("net.ckpt", "file"),
        ("model_best.pth.tar", "file"),
        ("net.pt:Net", "timm"),
        ("timm/net.txt", "timm"),
    ],
)
def test_kind_depends_on_the_spelling(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize("name", ["net.txt", "folder", "net"])
def test_path_without_a_model_suffix_is_invalid(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for file in ("net.txt", "net"):
        (tmp_path / file).touch()
    suffixes = r"\.py, \.ipynb, \.safetensors, \.pt, \.pth, \.th, \.ckpt, \.t7, \.tar, \.bin, \.onnx, \.pt2$"
    with pytest.raises(InputError, match=rf"{name} is not a model file.*{suffixes}"):
        kind_of(str(tmp_path / name))


def test_file_whose_name_starts_like_a_spec_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet20-12fca82f.th", "resnet18.py"):
        (tmp_path / name).touch()
        assert kind_of(name) == "file"
    assert kind_of("resnet18.py:build") == "file"
    assert kind_of("resnet18+resnet18.py:Gate") == "spec"


@pytest.mark.parametrize(
    ("name", "what"), [("net.msgpack", "msgpack"), ("net.h5", "HDF5"), ("net.keras", "Keras"), ("NET.H5", "HDF5")]
)
def test_format_of_another_framework_is_named(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=what):
        kind_of(str(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("net.py:Net", ("net.py", "Net")),
        ("net.py", ("net.py", "")),
        ("net.py:", ("net.py", "")),
        ("a:b/net.py:Net", ("a:b/net.py", "Net")),
        ("net.ipynb:Net(depth=4)", ("net.ipynb", "Net(depth=4)")),
        ("net.ipynb", ("net.ipynb", "")),
        ("net.py:Net('a.ipynb:b')", ("net.py", "Net('a.ipynb:b')")),
        ("net.pt:Net", ("net.pt:Net", "")),
    ],
)
def test_name_is_split_from_the_file(text: str, parts: tuple[str, str]) -> None:
    assert split_file(text) == parts


def test_our_base_precedes_the_timm_model(tiny: Benchmark) -> None:
    assert find_model("resnet18", tiny).description == "resnet18 (spec)"
    assert isinstance(build("resnet18", tiny), ResidualNet)


def test_prefix_selects_the_timm_model(tiny: Benchmark) -> None:
    assert find_model("timm/resnet18", tiny).description == "resnet18 (timm)"
    net = build("timm/resnet18", tiny)
    assert isinstance(net, TimmNet)
    assert isinstance(net.model, ResNet)
    assert net.num_classes == 10


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("resnet10t", "resnet10t (timm)"),
        ("resnet10t/64", "resnet10t/64 (timm)"),
        ("timm/resnet10t/64", "resnet10t/64 (timm)"),
        ("timm/resnet10t.c3_in1k", "resnet10t (timm)"),
        ("resnet10t.c3_in1k/64", "resnet10t/64 (timm)"),
        ("cifar_resnet8", "cifar_resnet8 (timm-ablate base)"),
    ],
)
def test_other_names_are_timm_models(text: str, description: str, tiny: Benchmark) -> None:
    assert find_model(text, tiny).description == description


def test_size_resizes_the_images(tiny: Benchmark) -> None:
    sizes = ("timm/test_resnet", "timm/test_resnet/32", "timm/test_resnet.r160_in1k/32")
    verdicts = [check_model(silent, CheckRequest(name, tiny, "cpu")) for name in sizes]
    plain, large, tagged = (verdict.cost for verdict in verdicts)
    assert plain.params == large.params
    assert plain.macs_torch is not None
    assert large.macs_torch is not None
    assert large.macs_torch > 5 * plain.macs_torch
    assert tagged == large
    assert [verdict.image_size for verdict in verdicts] == [8, 32, 32]


def test_model_of_fixed_size_has_an_example_of_the_right_one(tiny: Benchmark) -> None:
    with pytest.raises(InputError, match=r"timm/vgg11 .* 8 pixels .*: use timm/vgg11/PIXELS .* timm/vgg11/224$"):
        check_model(silent, CheckRequest("timm/vgg11", tiny, "cpu"))


def test_model_of_fixed_size_is_built_for_the_benchmark(tiny: Benchmark) -> None:
    wide = replace(tiny, data=replace(tiny.data, image_size=32))
    model = build("vit_tiny_patch16_224", wide)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)


def test_baseline_is_that_of_the_benchmark(tiny: Benchmark) -> None:
    model = find_model("baseline+se", tiny)
    assert model.description == "baseline+se (spec)"
    assert sum(p.numel() for p in model.builder().parameters()) > 77_754


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leave-one-out:baseline+se", "is not one model: give a spec"),
        ("resnt18", r"unknown model 'resnt18' \(bases and timm models\): did you mean 'resnet18'\?"),
        ("timm/resnet8", r"unknown timm model 'resnet8'"),
        ("timm/resnet18.a1_in2k", r"unknown tag 'a1_in2k' .*timm/resnet18.* did you mean 'a1_in1k'"),
        ("timm/resnet18/8", r"'timm/resnet18/8': the input size must be 16 to 1024 pixels"),
        ("resnet18d+se", r"'timm/resnet18d' takes no parts"),
        ("resnet8+see", r"unknown part 'see' at character 9 of 'resnet8\+see': did you mean 'se'\?"),
    ],
)
def test_unknown_name_suggests_the_closest(tiny: Benchmark, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        find_model(text, tiny)


def test_spec_over_the_budget_has_advice(tiny: Benchmark) -> None:
    small = replace(tiny, budget=Budget(max_params=40_000))
    verdict = check_model(silent, CheckRequest("resnet8", small, "cpu"))
    assert verdict.model == "resnet8 (spec)"
    assert verdict.problems == ("77,754 parameters > 40,000",)
    assert "would fit the budget" in verdict.advice


def test_timm_model_has_no_advice(tiny: Benchmark) -> None:
    verdict = check_model(silent, CheckRequest("timm/resnet10t", tiny, "cpu"))
    assert verdict.model == "resnet10t (timm)"
    assert not verdict.passed
    assert verdict.cost.output_shape == (1, 10)
    assert verdict.advice == ""
