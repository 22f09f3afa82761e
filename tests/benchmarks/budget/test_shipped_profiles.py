from collections import Counter
from dataclasses import replace

import pytest
import torch
from timm import create_model

from benchmarks.budget.cost import countable_attention
from benchmarks.budget.operators import training_work
from benchmarks.budget.profile import SHIPPED_PROFILES, read_profile, write_profile
from benchmarks.budget.roofline import loads_of, predict

# Images per second of training on an RTX 3090, in mixed precision and channels_last (torch 1.12), and the batch size:
# huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv (aa4b5850, Apache-2.0)
PUBLISHED = {
    "resnet18": (3481.78, 512),
    "mobilenetv2_100": (2313.10, 512),
    "convnext_tiny": (819.24, 256),
    "vit_small_patch16_224": (1057.92, 384),
    "seresnet50": (971.79, 384),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_PROFILES.glob("*.json")))
def test_shipped_profile_states_its_source(name: str) -> None:
    profile = read_profile(name)
    assert {"repository", "file", "commit", "license", "script"} <= profile.source.keys()
    assert profile.versions["torch"] == "1.12"
    assert (profile.median_error is None) == (profile.worst_error is None) == bool(profile.derived)
    if profile.derived:
        assert "not validated for training" in profile.accuracy()
    else:
        assert sum(family.nets for family in profile.error_by_family.values()) == profile.nets


def test_own_profile_precedes_a_shipped_one() -> None:
    write_profile(replace(read_profile("rtx3090"), device="RTX3090", nets=12))
    assert read_profile("rtx3090").nets == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_throughput_is_within_the_stated_error(name: str) -> None:
    images_per_second, batch_size = PUBLISHED[name]
    profile = read_profile("rtx3090")
    with countable_attention(), torch.device("meta"):  # as in the measurements
        model = create_model(name)
    seconds = predict(
        profile, loads_of(training_work(model, (3, 224, 224), batch_size, profile.precision), profile.cache)
    )
    assert profile.worst_error is not None
    assert seconds == pytest.approx(batch_size / images_per_second, rel=profile.worst_error)


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ("grouped convolution, slow, width 16", "grouped convolution, fast, width 16"),
        ("grouped convolution, fast, width 16", "convolution, spatial"),
        ("depthwise convolution, 9x9", "convolution, spatial"),
        ("convolution, spatial unaligned", "convolution, spatial"),
    ],
)
def test_kinds_of_convolutions_are_told_apart(slow: str, fast: str) -> None:
    profile = read_profile("rtx3090")

    def seconds(kind: str) -> float:
        return predict(profile, Counter({f"flops, {kind}": 1e12, f"bytes in memory, {kind}": 1e10}))

    assert seconds(slow) > 1.3 * seconds(fast)


def test_norms_are_told_apart() -> None:
    profile = read_profile("rtx3090")
    batch, group = (
        predict(profile, Counter({f"bytes in memory, {kind}": 1e9, f"bytes in memory, {kind}, backward": 1e9}))
        for kind in ("batch norm", "group norm")
    )
    assert group > 1.3 * batch
