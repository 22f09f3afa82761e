from typing import Any

import pytest
import torch
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.loss import create_loss

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
SOFT = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)).softmax(1)


def loss_of(targets: Tensor, **fields: Any) -> Tensor:
    return create_loss(Recipe(label_smoothing=0.2, **fields), torch.device("cpu"))(LOGITS, targets)


@pytest.mark.parametrize("name", ["cross_entropy", "soft_target"])
def test_class_indices_are_smoothed(name: Any) -> None:
    torch.testing.assert_close(loss_of(LABELS, loss=name), LabelSmoothingCrossEntropy(0.2)(LOGITS, LABELS))


@pytest.mark.parametrize("name", ["cross_entropy", "soft_target"])
def test_soft_targets_are_not_smoothed_again(name: Any) -> None:
    torch.testing.assert_close(loss_of(SOFT, loss=name), SoftTargetCrossEntropy()(LOGITS, SOFT))


def test_default_loss_has_the_bits_of_torch() -> None:
    assert torch.equal(loss_of(LABELS), F.cross_entropy(LOGITS, LABELS, label_smoothing=0.2))


@pytest.mark.parametrize("targets", [LABELS, SOFT])
def test_bce_matches_timm(targets: Tensor) -> None:
    expected = BinaryCrossEntropy(0.2, target_threshold=0.15, sum_classes=True, pos_weight=3.0)(LOGITS, targets)
    fields: dict[str, Any] = {"bce_target_threshold": 0.15, "bce_sum": True, "bce_pos_weight": 3.0}
    assert torch.equal(loss_of(targets, loss="bce", **fields), expected)
    assert torch.equal(loss_of(targets, loss="bce"), BinaryCrossEntropy(0.2)(LOGITS, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("splits", [2, 3])
def test_jsd_matches_timm(splits: int, smoothing: float) -> None:
    recipe = Recipe(label_smoothing=smoothing, loss="jsd", aug_splits=splits, auto_augment="augmix")
    labels = LABELS[: 6 // splits].repeat(splits)
    expected = JsdCrossEntropy(splits, smoothing=smoothing)(LOGITS, labels)
    assert torch.equal(create_loss(recipe, torch.device("cpu"))(LOGITS, labels), expected)
