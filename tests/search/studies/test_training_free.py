import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from search.studies.nas_bench_201 import build
from search.studies.nas_table import count_nas_bench_201
from search.studies.training_free import SCORES, gradient_scores, load_images, main, naswot, synflow

CELLS = (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|",
    "|skip_connect~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|skip_connect~1|none~2|",
)


def choices(cell: str) -> list[str]:
    return [edge for edge in cell.replace("+", "|").split("|") if edge]


@pytest.mark.parametrize("cell", CELLS)
def test_model_has_the_parameters_of_nas_bench_201(cell: str) -> None:
    model = build(choices(cell))
    names = [choice.partition("~")[0] for choice in choices(cell)]
    assert sum(parameter.numel() for parameter in model.parameters()) == count_nas_bench_201(names)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_synflow_of_a_linear_layer_is_the_sum_of_its_absolute_weights() -> None:
    layer = nn.Linear(3, 2, bias=False)
    expected = math.log1p(layer.weight.abs().sum().item())
    assert synflow(nn.Sequential(layer), torch.zeros(4, 3)) == pytest.approx(expected)


def test_naswot_is_the_log_determinant_of_the_agreement_of_activations() -> None:
    images = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, -1.0]])  # 3 of 4 activations agree
    assert naswot(nn.Sequential(nn.ReLU()), images) == pytest.approx(math.log(4 * 4 - 3 * 3))


def test_gradient_scores_are_those_of_the_equations() -> None:
    layer = nn.Linear(1, 2, bias=False)
    images, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])
    with torch.no_grad():
        layer.weight.zero_()  # both classes have a probability of 0.5
    # The gradients are (-0.5, 0.5) for the first half of the batch, and 3 x (0.5, -0.5) for the second.
    norm, zico = gradient_scores(nn.Sequential(layer), images, labels)
    assert norm == pytest.approx(math.hypot(0.5, 0.5))
    assert zico == pytest.approx(math.log(1.0 / 0.5 + 1.0 / 0.5))


@pytest.mark.slow
def test_command_keeps_computed_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, images, out = tmp_path / "table.csv", tmp_path / "images", tmp_path / "scores.csv"
    lines = [f"{cell},{80 + number},{40 + number},100" for number, cell in enumerate(CELLS)]
    table.write_text("\n".join(["arch,a_test_mean,b_val_ep12,b_time_ep12", *lines]))
    for label in range(2):
        folder = images / str(label)
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 40 * label, 90)).save(folder / f"{number}.png")
    options = [str(table), "--images", str(images), "--image-size", "8", "--out", str(out)]
    assert main([*options, "--models", "2"]) == 0
    first = pd.read_csv(out, index_col="model")
    assert (len(first), set(first)) == (2, set(SCORES))
    assert main(options) == 0
    scores = pd.read_csv(out, index_col="model")
    assert len(scores) == 3
    pd.testing.assert_frame_equal(scores.iloc[:2], first)
    assert "naswot" in capsys.readouterr().out


def test_images_are_drawn_at_random(tmp_path: Path) -> None:
    for label in range(3):
        (tmp_path / str(label)).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8)).save(tmp_path / str(label) / f"{number}.png")
    images, labels = load_images(tmp_path, size=4, number=12)
    assert images.shape == (12, 3, 4, 4)
    assert set(labels.tolist()) == {0, 1, 2}
