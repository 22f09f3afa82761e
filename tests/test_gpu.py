"""What only a GPU can show."""

from pathlib import Path

import pytest
import torch

from ablation.cli import main
from arch.models import build
from arch.spec import parse
from benchmarks.benchmark import BENCHMARKS
from benchmarks.budget import sandbox
from benchmarks.budget.file_check import check_file
from benchmarks.budget.throughput import measure_throughput
from benchmarks.progress import silent
from benchmarks.training.recipe import Recipe
from benchmarks.training.trainer import Epoch, LabelledImages, make_deterministic, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SPEC = "resnet8+se+drop_path=0.2"


def train_on_gpu(precision: str) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
    make_deterministic()
    torch.manual_seed(0)
    generator = torch.Generator("cuda").manual_seed(0)
    images = torch.randint(256, (512, 3, 32, 32), dtype=torch.uint8, device="cuda", generator=generator)
    labels = images.float().mean((1, 2, 3)).argsort().argsort() * 10 // 512
    split = LabelledImages(images, labels)
    model = build(parse(SPEC).variant(), 10).to("cuda")
    curve, _ = train(model, split, split, Recipe(epochs=3, batch_size=64, warmup_epochs=1, precision=precision), seed=0)
    return curve, {name: tensor.cpu() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_same_seed_same_gpu_same_numbers(precision: str) -> None:
    curves, weights = zip(*(train_on_gpu(precision) for _ in range(2)), strict=True)
    assert [line.train_loss for line in curves[0]] == [line.train_loss for line in curves[1]]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_mixed_precision_keeps_float32_weights_and_a_finite_loss() -> None:
    curve, weights = train_on_gpu("fp16")
    assert all(0 < line.train_loss < 10 for line in curve)
    assert weights["head.fc.weight"].dtype == torch.float32


def test_throughput_is_measured_at_the_recipes_own_batch() -> None:
    model = build(parse("resnet18").variant(), 100).to("cuda")
    recipe = BENCHMARKS["cifar100"].recipe
    throughput = measure_throughput(model, recipe, 100, (3, 32, 32))
    assert throughput.batch_size == recipe.batch_size
    assert 0 < throughput.training.slowest <= throughput.training.median <= throughput.training.fastest
    assert 0 < throughput.evaluation.slowest <= throughput.evaluation.median <= throughput.evaluation.fastest
    assert throughput.peak_memory is not None
    assert throughput.peak_memory > 3 * 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["bubblewrap", "sandlock"])
def test_a_file_is_timed_on_the_gpu_in_each_sandbox(kind: sandbox.Kind, tmp_path: Path) -> None:
    if not sandbox.works(kind):
        pytest.skip(f"{kind} does not work here")
    path = tmp_path / "net.py"
    path.write_text(
        "from arch.models import build\nfrom arch.spec import parse\nnet = build(parse('resnet8').variant(), 10, 1)"
    )
    verdict, _ = check_file(str(path), BENCHMARKS["digits"], "cuda", (1297, 500), silent, sandbox.Limits(), kind=kind)
    assert verdict.throughput is not None
    assert verdict.throughput.batch_size == BENCHMARKS["digits"].recipe.batch_size
    assert "cpu" not in verdict.device


def test_ablate_run_uses_the_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\nbaseline = "resnet8"\n[data]\nsource = "digits"\nnum_classes = 10\nimage_size = 8\n'
        "in_chans = 1\n[recipe]\nepochs = 2\nwarmup_epochs = 1\nbatch_size = 64\nlr = 0.05\n"
    )
    arguments = ["run", "baseline", "--benchmark", str(tmp_path / "tiny.toml"), "--seeds", "1"]
    assert main([*arguments, "--device", "cuda", "--out", str(tmp_path / "out")]) == 0
    assert torch.cuda.get_device_name() in capsys.readouterr().out
