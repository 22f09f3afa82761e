"""Tests that need a GPU."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablation.cli import main
from arch.models import build
from arch.spec import Architecture, parse
from arch.timm_model import TimmModel
from arch.timm_net import ImageFormat
from benchmarks.budget.builders import spec_builder
from benchmarks.budget.energy import EnergyMeter
from benchmarks.budget.inference import measure_inference
from benchmarks.budget.peak import peak_throughput
from benchmarks.budget.request import CheckRequest
from benchmarks.budget.throughput import measure_throughput
from benchmarks.datasets.cache import CachedDataset
from benchmarks.definition.config_parser import read_run_config
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.execution.progress import silent
from benchmarks.runs import runs_per_device
from benchmarks.runs.run import Run
from benchmarks.sandbox.file_check import FilePolicy, check_file
from benchmarks.sandbox.kinds import SandboxKind, is_available
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.compile_mode import COMPILED_MODES, CompileMode, CompileModeFailed
from benchmarks.training.determinism import make_deterministic
from benchmarks.training.distillation import Distiller, weights_digest
from benchmarks.training.state import EpochMetrics
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, random_images
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # warnings differ between drivers and compilers
]

SPEC = "resnet8+se+drop_path=0.2"


def train_on_gpu(
    precision: str,
    options: TrainingOptions | None = None,
    architecture: Architecture | None = None,
    changes: dict[str, Any] | None = None,
) -> tuple[list[EpochMetrics], dict[str, torch.Tensor]]:
    """Train on the GPU. Return the training curve, and the final weights on the CPU."""
    make_deterministic()
    torch.manual_seed(0)
    generator = torch.Generator("cuda").manual_seed(0)
    images = torch.randint(256, (512, 3, 32, 32), dtype=torch.uint8, device="cuda", generator=generator)
    labels = images.float().mean((1, 2, 3)).argsort().argsort() * 10 // 512
    split = DeviceImages(images, labels)
    model = build(architecture or parse(SPEC).variant(), 10, 3, ImageFormat(32)).to("cuda")
    recipe = replace(Recipe(epochs=3, batch_size=64, warmup_epochs=1, precision=precision), **(changes or {}))
    curve, _ = train(model, Splits(split, split), recipe, 0, options)
    return curve, {name: tensor.cpu() for name, tensor in model.state_dict().items()}


def train_losses(curve: list[EpochMetrics]) -> list[float]:
    return [epoch.train_loss for epoch in curve]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_inference_and_peak_are_measured_in_the_precision_of_the_recipe(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.budget.inference.MAX_CALLS", 3)
    digits = BENCHMARKS["digits"]
    benchmark = replace(digits, recipe=replace(digits.recipe, precision=precision))
    inference = measure_inference(spec_builder("resnet8", benchmark), benchmark, "cuda", 64)
    assert (inference.precision, inference.batch.batch_size, inference.batch.calls) == (precision, 64, 3)
    assert inference.peak_memory > 4 * 77_754
    peak = peak_throughput(silent, "cuda", precision)
    assert peak.flops_per_second > 1e11
    assert peak.device == torch.cuda.get_device_name()


def test_energy_of_the_gpu_is_measured_or_the_reason_is_given() -> None:
    matrix = torch.ones(4096, 4096, device="cuda")
    with EnergyMeter("cuda") as meter:
        for _ in range(1000):
            matrix = (matrix @ matrix).clamp(-1, 1)
        torch.cuda.synchronize()
    assert (meter.energy.joules is None) is bool(meter.energy.problem)
    assert meter.energy.joules is None or meter.energy.joules > 1


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_same_seed_gives_identical_metrics_and_weights(precision: str) -> None:
    curves, weights = zip(*(train_on_gpu(precision) for _ in range(2)), strict=True)
    assert train_losses(curves[0]) == train_losses(curves[1])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("compile_mode", ["eager", *COMPILED_MODES["cuda"]])
def test_distillation_is_deterministic_and_does_not_change_the_teacher(compile_mode: CompileMode) -> None:
    settings, losses = read_run_config("resnet8@teacher=(resnet20)").overrides.distillation, []
    assert settings is not None
    for _ in range(2):
        torch.manual_seed(1)
        teacher = build(parse("resnet20").variant(), 10).to("cuda")
        before = weights_digest(teacher)
        options = TrainingOptions(compile_mode, distiller=Distiller(settings, teacher, 3))
        losses.append(train_losses(train_on_gpu("fp16", options)[0]))
        assert weights_digest(teacher) == before
    assert losses[0] == losses[1]


def test_training_with_resized_images_is_deterministic() -> None:
    curves = [train_on_gpu("fp16", architecture=TimmModel("test_resnet", 64))[0] for _ in range(2)]
    assert train_losses(curves[0]) == train_losses(curves[1])


@pytest.mark.parametrize("compile_mode", ["eager", "cuda_graphs"])
@pytest.mark.parametrize(
    "spec", ["resnet8+shakedrop+drop_block+layer_scale", "resnet50+res2net+weight_standardization"]
)
def test_regularized_networks_are_deterministic(spec: str, compile_mode: CompileMode) -> None:
    variant, options = parse(spec).variant(), TrainingOptions(compile_mode)
    curves, weights = zip(*(train_on_gpu("fp16", options, variant) for _ in range(2)), strict=True)
    assert train_losses(curves[0]) == train_losses(curves[1])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_attention_is_deterministic(precision: str) -> None:
    vit = TimmModel("vit_tiny_patch16_224", 64)
    curves, weights = zip(*(train_on_gpu(precision, architecture=vit) for _ in range(2)), strict=True)
    assert train_losses(curves[0]) == train_losses(curves[1])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("compile_mode", COMPILED_MODES["cuda"])
def test_compiled_training_is_deterministic(compile_mode: CompileMode) -> None:
    curves, weights = zip(*(train_on_gpu("fp16", TrainingOptions(compile_mode)) for _ in range(2)), strict=True)
    assert train_losses(curves[0]) == train_losses(curves[1])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    eager, _ = train_on_gpu("fp16")
    assert curves[0][-1].train_loss == pytest.approx(eager[-1].train_loss, rel=0.2)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9, "ema_warmup": True, "clip_grad": 1.0},
        {"grad_accum_steps": 2, "weight_decay_exclusions": True},
        {"optimizer": "adamw", "lr": 0.001},
    ],
    ids=str,
)
def test_cuda_graphs_give_the_numbers_of_eager_mode(precision: str, changes: dict[str, Any]) -> None:
    results = [train_on_gpu(precision, TrainingOptions(mode), changes=changes) for mode in ("eager", "cuda_graphs")]
    (curve, weights), (graphed_curve, graphed_weights) = results
    assert train_losses(graphed_curve) == train_losses(curve)
    assert [epoch.loss for epoch in graphed_curve] == [epoch.loss for epoch in curve]
    assert all(torch.equal(graphed_weights[name], weights[name]) for name in weights)


class Waiting(nn.Module):
    """Reads a result on the host, which cannot be captured."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum().item() else 2 * images


def test_eager_training_is_the_same_after_a_failed_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = train_on_gpu("fp16")
    with monkeypatch.context() as patch:
        patch.setattr("tests.test_gpu.build", lambda *arguments: nn.Sequential(Waiting(), build(*arguments)))
        with pytest.raises(CompileModeFailed):
            train_on_gpu("fp16", TrainingOptions("cuda_graphs"))
    curve, _ = train_on_gpu("fp16")  # its layers draw from the generator that the capture used
    assert train_losses(curve) == train_losses(expected)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_step_as_a_graph_does_not_wait_for_the_gpu_and_is_faster_to_launch() -> None:
    recipe = Recipe(epochs=2, batch_size=64, warmup_epochs=1)
    split = random_images(512, (3, 32, 32), 10, torch.Generator("cuda").manual_seed(0))
    batch = split.take(torch.arange(64, device="cuda"))
    kernels = []
    for mode in ("eager", "cuda_graphs"):
        step = TrainingStep(build(parse(SPEC).variant(), 10).to("cuda"), recipe, 8, StepOptions(mode))
        for iteration in range(2):
            step(batch.images, batch.labels, iteration)
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                step(batch.images, batch.labels, 2)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        kernels.append(sum(event.count for event in profile.key_averages()))
    assert kernels[1] < kernels[0] / 10


@pytest.mark.parametrize("compile_mode", ["eager", *COMPILED_MODES["cuda"]])
def test_resume_in_the_middle_of_an_epoch_gives_identical_metrics(compile_mode: CompileMode, tmp_path: Path) -> None:
    curve, weights = train_on_gpu("fp16", TrainingOptions(compile_mode))
    calls = count(1)
    stopped = Checkpoint(tmp_path, {}, stopping=lambda: next(calls) > 22)
    with pytest.raises(TrainingStopped):
        train_on_gpu("fp16", TrainingOptions(compile_mode, checkpoint=stopped))
    checkpoint = Checkpoint(tmp_path, {})
    assert checkpoint.loaded is not None
    assert 0 < checkpoint.loaded[1]["batch"] < 8
    resumed_curve, resumed_weights = train_on_gpu("fp16", TrainingOptions(compile_mode, checkpoint=checkpoint))
    assert train_losses(resumed_curve) == train_losses(curve)
    assert all(torch.equal(weights[name], resumed_weights[name]) for name in weights)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_share_each_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seeds", "1", "--out", str(tmp_path), "--device", "cuda", "--world-size", "2"]
    assert main(["run", "baseline", *options]) == 0
    assert "2 devices a run" in capsys.readouterr().out


def test_training_step_does_not_wait_for_the_gpu() -> None:
    recipe = Recipe(epochs=2, batch_size=64, warmup_epochs=1)
    images = torch.randint(256, (512, 32, 32, 3), dtype=torch.uint8, device="cuda").permute(0, 3, 1, 2)
    split = DeviceImages(images, torch.randint(10, (512,), device="cuda"))
    step = TrainingStep(build(parse(SPEC).variant(), 10).to("cuda"), recipe, 8)
    order = torch.randperm(512, device="cuda")
    for mode in ("default", "error"):  # the first pass allocates buffers that the second pass reuses
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for iteration, indices in enumerate(order.split(64)):
                batch = split.take(indices)
                step(batch.images, batch.labels, iteration)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_first_step_that_the_scaler_skips_changes_nothing() -> None:
    recipe = Recipe(epochs=2, batch_size=64, warmup_epochs=1)
    step = TrainingStep(build(parse(SPEC).variant(), 10).to("cuda"), recipe, 8)
    step.scaler = torch.amp.GradScaler(init_scale=2.0**120)
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    images = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8, device="cuda").permute(0, 3, 1, 2)
    step(images, torch.randint(10, (64,), device="cuda"), 0)
    for parameter, old in zip(step.model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert not step.optimizer.state[parameter]["momentum_buffer"].any()


def test_two_runs_share_the_gpu(tmp_path: Path, digits: CachedDataset) -> None:
    benchmark, spec = BENCHMARKS["digits"], "resnet8"
    run = Run(read_run_config(spec), benchmark, 0, digits, "cuda", tmp_path, spec, 1, 1, 0.1)
    assert runs_per_device.measure_total_throughput(run, 2, peak_memory=2**20) > 0


def test_mixed_precision_keeps_float32_weights_and_a_finite_loss() -> None:
    curve, weights = train_on_gpu("fp16")
    assert all(0 < loss < 10 for loss in train_losses(curve))
    assert weights["head.fc.weight"].dtype == torch.float32


def test_throughput_is_measured_at_the_batch_size_of_the_recipe() -> None:
    model = build(parse("resnet18").variant(), 100).to("cuda")
    recipe = BENCHMARKS["cifar100"].recipe
    throughput = measure_throughput(model, recipe, BENCHMARKS["cifar100"].data)
    assert throughput.batch_size == recipe.batch_size
    assert 0 < throughput.training.slowest <= throughput.training.median <= throughput.training.fastest
    assert 0 < throughput.evaluation.slowest <= throughput.evaluation.median <= throughput.evaluation.fastest
    assert throughput.peak_memory is not None
    assert throughput.peak_memory > 3 * 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["bubblewrap", "sandlock"])
def test_model_file_is_timed_on_the_gpu_in_each_sandbox(kind: SandboxKind, tmp_path: Path) -> None:
    if not is_available(kind):
        pytest.skip(f"{kind} does not work here")
    path = tmp_path / "net.py"
    path.write_text(
        "from arch.models import build\nfrom arch.spec import parse\nnet = build(parse('resnet8').variant(), 10, 1)"
    )
    request = CheckRequest(str(path), BENCHMARKS["digits"], "cuda", (1297, 500))
    verdict, _ = check_file(request, FilePolicy(SandboxLimits(), kind=kind), silent)
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
