"""Score the models of NAS-Bench-201 without training, and correlate the scores with their accuracies.

    python -m search.studies.training_free TABLE.csv --images DIR --max-quantile 0.5 --out scores.csv

TABLE is that of `search.studies.nas_tables`. The scores are computed at initialization, from 32 images in DIR. Those of
finished models are kept in --out and not computed again.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import datasets, transforms

from benchmarks.records.atomic_write import replace_file
from search.studies.nas_bench_201 import build
from search.studies.nas_table import FULL, SHORT, NasTable

MODELS_PER_SAVE = 100
SCORES = ("grad_norm", "synflow", "naswot", "zico")


def _gradients(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Return the gradient of the loss for each weight of two or more dimensions; zero if the loss is independent."""
    weights = [weight for weight in model.parameters() if weight.dim() > 1]
    loss = functional.cross_entropy(model(images), labels)
    return list(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))


def gradient_scores(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the gradient norm and ZiCo, each from the gradients of two halves of a batch.

    Gradient norm: sum of the norms of the gradient over the layers (Abdelfattah et al. 2021, arXiv:2101.08134). ZiCo:
    sum over the layers of log(sum of mean / standard deviation) of the absolute gradients (Li et al. 2023,
    arXiv:2301.11300, eq. 15).
    """
    halves = [_gradients(model, *half) for half in zip(images.chunk(2), labels.chunk(2), strict=True)]
    norm = zico = 0.0
    for gradients in map(torch.stack, zip(*halves, strict=True)):
        norm += gradients.mean(0).norm().item()
        mean, deviation = gradients.abs().mean(0), gradients.abs().std(0, correction=0)
        ratio = (mean / deviation)[deviation > 0].sum().item()
        zico += math.log(ratio) if ratio > 0 else 0.0
    return norm, zico


def synflow(model: nn.Module, images: Tensor) -> float:
    """Return log(1 + SynFlow), where SynFlow is the sum of |weight x gradient| (Tanaka et al. 2020, arXiv:2006.05467).

    All weights take their absolute values, and normalization is left out, which changes the model.
    """
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    model.double()
    weights = [weight for weight in model.parameters() if weight.dim() > 1]
    output = model(torch.ones_like(images[:1], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(output, weights, allow_unused=True, materialize_grads=True)
    products = [(weight * gradient).abs().sum().item() for weight, gradient in zip(weights, gradients, strict=True)]
    return math.log1p(sum(products))


def naswot(model: nn.Module, images: Tensor) -> float:
    """Return the log-determinant of the kernel of activation patterns (Mellor et al. 2021, arXiv:2006.04647, eq. 2)."""
    kernel = torch.zeros(len(images), len(images))

    def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        active = (output.flatten(1) > 0).float()
        kernel.add_(active @ active.T + (1 - active) @ (1 - active).T)

    handles = [module.register_forward_hook(add) for module in model.modules() if isinstance(module, nn.ReLU)]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return float(torch.linalg.slogdet(kernel.double()).logabsdet)


def score(choices: Sequence[str], images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the scores of a model at initialization."""
    torch.manual_seed(0)
    model = build(choices, int(labels.max()) + 1)
    activation_score = naswot(model, images)
    norm, zico = gradient_scores(model, images, labels)
    return {"grad_norm": norm, "zico": zico, "naswot": activation_score, "synflow": synflow(model, images)}


def load_images(folder: Path, size: int, number: int = 32) -> tuple[Tensor, Tensor]:
    """Return normalized images (number, 3, size, size) of an image folder, in random order, and their labels."""
    steps = [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(0.5, 0.25)]
    data = datasets.ImageFolder(folder, transforms.Compose(steps))
    rows = np.random.default_rng(0).permutation(len(data))[:number]
    images, labels = zip(*(data[row] for row in rows.tolist()), strict=True)
    return torch.stack(images), torch.tensor(labels)


def correlate(table: NasTable, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rank correlation (Spearman) of each score, and of the parameters, with the accuracies.

    "partial" is the correlation with the accuracy of the full training run, given the parameters.
    """
    rows = scores.index.to_numpy()
    columns = {"parameters": table.params[rows], "validation accuracy of the short run": table.accuracy[SHORT, rows]}
    ranks = pd.DataFrame({**columns, **scores, "full": table.accuracy[FULL, rows]}).rank()
    correlation = ranks.corr()
    given = correlation["parameters"]
    partial = (correlation["full"] - given["full"] * given) / np.sqrt((1 - given["full"] ** 2) * (1 - given**2))
    result = pd.DataFrame({"correlation": correlation["full"], "partial": partial}).drop("full")
    return result.assign(partial=result["partial"].where(result.index != "parameters"))


def _save(scores: pd.DataFrame, path: Path) -> None:
    replace_file(path, lambda file: scores.rename_axis("model").to_csv(file))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute the missing scores, and print the correlations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="image folder: one folder per class")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=200, help="epochs of a full training run")
    parser.add_argument("--max-quantile", type=float, default=1.0, help="leave out models with more parameters")
    parser.add_argument("--models", type=int, default=10**6, help="maximum number of models, drawn at random")
    parser.add_argument("--out", type=Path, default=Path("scores.csv"))
    options = parser.parse_args(argv)
    table = NasTable.read(options.table, options.epochs).within_quantile(options.max_quantile)
    images, labels = load_images(options.images, options.image_size)
    order = np.random.default_rng(0).permutation(np.flatnonzero(table.allowed))[: options.models].tolist()
    scores = pd.read_csv(options.out, index_col="model") if options.out.exists() else pd.DataFrame(columns=SCORES)
    missing = [model for model in order if model not in scores.index]
    for start in range(0, len(missing), MODELS_PER_SAVE):
        models = missing[start : start + MODELS_PER_SAVE]
        new = pd.DataFrame([score(table.choices[model], images, labels) for model in models], index=models)
        scores = pd.concat([scores, new]) if len(scores) else new
        _save(scores, options.out)
        print(f"{len(scores)} models", flush=True)
    print(correlate(table, scores).to_markdown(floatfmt=".3f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
