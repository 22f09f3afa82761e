"""Train every base, every part and some timm models for one step on fake CUDA tensors.

Bases and parts are taken from their registries, so a new one is tested without a change here. If it has a known
problem, add it to `KNOWN`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from arch.bases import BASES
from arch.errors import InputError
from arch.parts import PARTS
from arch.spec import Architecture, parse
from tests.fake_cuda.device import fake_cuda
from tests.fake_cuda.nondeterministic import DOCUMENTED
from tests.fake_cuda.training import DEFAULT_IMAGES, RECIPE, problems, record_step, shortened

# Adaptive max pooling is listed, but with a 1x1 output, no gradient is a sum whose order could change.
MAX_POOL = {"not deterministic: adaptive_max_pool2d_backward"}
# The gradient of global pooling is an expanded tensor, for which torch chooses NCHW. The images of the last stage are
# small, and the next operator restores the layout.
KNOWN = {
    "resnet26_max": MAX_POOL,
    "max_pool": MAX_POOL,
    "avgmax_pool": MAX_POOL,
    "catavgmax_pool": MAX_POOL,
    "gem": {"layout change: mul"},
    "gelu": {"layout change: gelu_backward"},
    "silu": {"layout change: silu_backward"},
    "mish": {"layout change: mish_backward"},
    # The splits of a channels-last tensor are slices of it, which cuDNN copies.
    "res2net": {"convolution: not channels last"},
    "res2next29": {"convolution: not channels last"},
    "cbam": {"convolution: not channels last"},  # of the spatial attention: only 2 channels
}
CHOICES = {name: part.value.choices for name, part in PARTS.items() if part.value and name in ("block", "stem")}
TIMM_MODELS = (
    "test_resnet/64",
    "test_convnext/64",
    "test_efficientnet/64",
    "test_vit/64",
    "deit_tiny_distilled_patch16_224/64",
    "swin_tiny_patch4_window7_224/64",
    "mixer_s32_224/64",
    "resmlp_12_224/64",
    "resnet18",
)


@pytest.fixture(autouse=True)
def _fake_cuda() -> Iterator[None]:
    with fake_cuda():
        yield


def problems_of(architecture: Architecture, precision: str = "fp16") -> set[str]:
    recipe = replace(RECIPE, precision=precision)
    return problems(record_step(DEFAULT_IMAGES.build(shortened(architecture)), recipe, steps=1), recipe)


def spec_with(part: str) -> str:
    """Return the first of some specs that a part changes."""
    for base in ("resnet8", "resnet8+se", "resnet8+silu", "resnet8+gem", "resnet18", "resnet50"):
        try:
            changed = parse(f"{base}+{part}").variant()
        except InputError:
            continue
        if changed != parse(base).variant():
            return f"{base}+{part}"
    raise ValueError(f"no base for {part}")


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_base(base: str) -> None:
    assert problems_of(parse(base).variant()) == KNOWN.get(base, set())


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_part(part: str) -> None:
    assert problems_of(parse(spec_with(part)).variant()) == KNOWN.get(part, set())


@pytest.mark.slow
@pytest.mark.parametrize("step", [f"{part}={value}" for part, values in CHOICES.items() for value in values])
def test_kinds_of_blocks_and_stems(step: str) -> None:
    assert problems_of(parse(f"resnet8+{step}").variant()) == set()


@pytest.mark.slow
@pytest.mark.parametrize("base", ["resnet8+preact", "pyramidnet110+depth=0.1", "resnet50", "wide_cnn"])
def test_blurpool_in_each_kind_of_block(base: str) -> None:
    assert problems_of(parse(f"{base}+blurpool").variant()) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM_MODELS)
def test_timm_model(name: str) -> None:
    found = problems_of(parse(f"timm/{name}").architecture)
    assert {problem for problem in found if not problem.startswith("layout change")} == set()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_attention_and_normalization_in_each_precision(precision: str) -> None:
    assert problems_of(parse("resnet8+se+drop_path=0.2+dropout=0.1").variant(), precision) == set()


def test_list_of_nondeterministic_operators_is_complete() -> None:
    documentation = str(torch.use_deterministic_algorithms.__doc__)
    without_kernel = documentation.rpartition("when ``mode=True``:\n")[2].partition("In addition")[0]
    bullets = [text for text in without_kernel.split("\n    * ") if "CUDA" in text or "MPS" not in text]
    assert len(names := set(re.findall(r":(?:class|func):`(torch\.[\w.]+)`", "".join(bullets)))) > 10
    assert names - DOCUMENTED.keys() == set()
