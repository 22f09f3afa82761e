from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from arch.models import build
from arch.spec import parse
from benchmarks.definition.recipe import Recipe
from benchmarks.training import evaluation
from benchmarks.training.evaluation import eval_batch_size, evaluate
from benchmarks.training.step import DeviceImages

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1)


def net(spec: str) -> nn.Module:
    torch.manual_seed(0)
    return build(parse(spec).variant(), 10, 1)


def images(count: int) -> DeviceImages:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


class FixedLogits(nn.Module):
    """Model that returns the given logits row by row, regardless of the images."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.num_seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.num_seen += len(x)
        return self.logits[self.num_seen - len(x) : self.num_seen]


def count_by_hand(logits: list[list[float]], labels: list[int]) -> tuple[float, float, list[float]]:
    """Compute top-1, top-5 and per-class accuracy in percent without torch."""
    ranks = [
        sorted(range(len(row)), key=row.__getitem__)[::-1].index(label)
        for row, label in zip(logits, labels, strict=True)
    ]
    classes = [
        [rank == 0 for rank, label in zip(ranks, labels, strict=True) if label == k] for k in range(len(logits[0]))
    ]
    top1, top5 = (100 * sum(rank < k for rank in ranks) / len(ranks) for k in (1, 5))
    return top1, top5, [100 * sum(correct) / len(correct) for correct in classes]


@pytest.mark.parametrize(
    ("num_classes", "labels"),
    [
        (10, [*range(10), *range(10), 3, 3, 3]),
        (7, [0, 1, 1, 2, 2, 2, 3, 4, 5, 6, 6]),
        (5, [0, 1, 2, 3, 4]),
        (3, [0, 0, 0, 0, 1, 2, 2]),
        (2, [0, 1, 1]),
    ],
)
def test_metrics_equal_those_counted_by_hand(
    num_classes: int, labels: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "EVAL_BATCH", 4)
    logits = torch.randn(len(labels), num_classes, generator=torch.Generator().manual_seed(num_classes))
    split = DeviceImages(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), torch.tensor(labels))
    result = evaluate(FixedLogits(logits), split, RECIPE)
    top1, top5, per_class = count_by_hand(logits.tolist(), labels)
    assert (result.top1, result.top5) == pytest.approx((top1, top5))
    assert result.per_class == pytest.approx(per_class)
    losses = [row.logsumexp(0) - row[label] for row, label in zip(logits, labels, strict=True)]
    assert result.loss == pytest.approx(sum(losses).item() / len(losses))


def test_top5_of_fewer_than_five_classes_is_100() -> None:
    logits = torch.eye(3)[[1, 2, 0]]
    split = DeviceImages(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    result = evaluate(FixedLogits(logits), split, RECIPE)
    assert (result.top1, result.top5) == (0.0, 100.0)


@pytest.mark.parametrize("batch", [5, 1000])
def test_evaluation_batch_does_not_change_the_metrics(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = net("resnet8+width=0.5"), images(24)
    expected = evaluate(model, split, RECIPE)
    monkeypatch.setattr(evaluation, "EVAL_BATCH", batch)
    result = evaluate(model, split, RECIPE)
    assert replace(result, loss=0.0) == replace(expected, loss=0.0)
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("device", "batch_size", "expected"), [("cuda", 64, 256), ("cuda:1", 512, 1024), ("cpu", 64, 1024)]
)
def test_evaluation_batch_fits_where_training_does(device: str, batch_size: int, expected: int) -> None:
    assert eval_batch_size(replace(RECIPE, batch_size=batch_size), torch.device(device)) == expected


def test_images_are_evaluated_in_batches_of_that_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "eval_batch_size", lambda recipe, device: 10)
    model, sizes = net("resnet8+width=0.5"), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    evaluate(model, images(24), RECIPE)
    assert sizes == [10, 10, 4]


def test_evaluation_does_not_change_the_model() -> None:
    model, split = net("resnet8+width=0.5+drop_path=0.3+dropout=0.3"), images(24)
    model(torch.randn(8, 1, 8, 8))  # sets the norm statistics
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    assert evaluate(model, split, RECIPE) == evaluate(model, split, RECIPE)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
