import gc
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy
from timm.models import model_parameters
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.recipe import Recipe
from benchmarks.training.augment import crop_and_flip, normalize
from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, autocast, random_images

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.1, warmup_epochs=1, crop_padding=1)
CPU = torch.device("cpu")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 2 * 3, 5))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeded(step: TrainingStep, seed: int = 0) -> TrainingStep:
    """Seed the draws of the augmentation."""
    step.generator.manual_seed(seed)
    return step


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_take_returns_the_images_and_labels_at_the_indices(memory_format: torch.memory_format) -> None:
    pixels = torch.randint(256, (9, 3, 5, 4), dtype=torch.uint8)
    split = DeviceImages(pixels.contiguous(memory_format=memory_format), torch.arange(9))
    indices = torch.tensor([7, 0, 7, 3])
    taken = split.take(indices)
    assert torch.equal(taken.images, pixels[indices])
    assert torch.equal(taken.labels, indices)
    assert taken.images.is_contiguous(memory_format=torch.channels_last)
    assert (len(split), len(taken)) == (9, 4)


def test_random_images_have_the_requested_shape() -> None:
    split = random_images(200, (3, 4, 5), 7, generator())
    assert split.images.shape == (200, 3, 4, 5)
    assert split.images.dtype == torch.uint8
    assert split.images.is_contiguous(memory_format=torch.channels_last)
    assert set(split.labels.tolist()) == set(range(7))
    assert len(split.images.unique()) == 256


def test_random_images_depend_on_the_generator_alone() -> None:
    one, same, other = (random_images(8, (3, 4, 5), 7, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.images, other.images)


@dataclass(frozen=True)
class RecordingContext(DistributedContext):
    """Context of two processes without the second process, which records the wrapped models and their inputs."""

    size: int = 2
    wrapped: list[nn.Module] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)

    def wrap(self, model: nn.Module) -> nn.Module:
        self.wrapped.append(model)
        wrapper = nn.Sequential(model)
        wrapper.register_forward_pre_hook(lambda _, inputs: self.inputs.append(inputs[0]))
        return wrapper


def test_forward_pass_uses_the_wrapped_model() -> None:
    context, model, batch = RecordingContext(), net(), random_images(8, (3, 4, 5), 5, generator())
    step = TrainingStep(model, RECIPE, 3, StepOptions(context=context))
    seeded(step)(batch.images, batch.labels, 0)
    assert context.wrapped == [model]
    assert step.model is model  # the unwrapped model is saved and evaluated
    assert [len(inputs) for inputs in context.inputs] == [8]


def test_model_sees_cropped_flipped_and_normalized_images() -> None:
    context, batch = RecordingContext(), random_images(8, (3, 4, 5), 5, generator())
    step = TrainingStep(net(), RECIPE, 3, StepOptions(context=context))
    seeded(step, 4)(batch.images, batch.labels, 0)
    expected = normalize(crop_and_flip(batch.images, 1, 0.5, generator(4)), 0.5, 0.5)
    assert torch.equal(context.inputs[0], expected)


def test_momenta_exist_before_the_first_update() -> None:
    step = TrainingStep(net().to(memory_format=torch.channels_last), RECIPE, 3)
    for parameter in step.model.parameters():
        momentum = step.optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(momentum, torch.zeros_like(parameter))
        assert momentum.stride() == parameter.stride()
    without_momentum = TrainingStep(net(), replace(RECIPE, momentum=0.0), 3)
    assert dict(without_momentum.optimizer.state) == {}


@pytest.mark.parametrize("nesterov", [True, False])
def test_initial_momenta_do_not_change_the_updates(nesterov: bool) -> None:
    """Test that zero momenta match torch, which by default initializes them with the first gradient."""
    recipe = replace(RECIPE, nesterov=nesterov)
    batch, models = random_images(8, (3, 4, 5), 5, generator()), [net(), net()]
    steps = [TrainingStep(model, recipe, 3) for model in models]
    steps[1].optimizer.state.clear()
    for step in steps:
        for iteration in range(3):
            seeded(step, iteration)(batch.images, batch.labels, iteration)
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_returned_tensors_need_no_gradient() -> None:
    batch = random_images(8, (3, 4, 5), 5, generator())
    loss, correct = seeded(TrainingStep(net(), RECIPE, 3))(batch.images, batch.labels, 0)
    assert (loss.shape, correct.shape) == ((), ())
    assert not loss.requires_grad
    assert 0 <= int(correct) <= 8


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_cpu_trains_in_float32(precision: str) -> None:
    recipe = replace(RECIPE, precision=precision)
    assert not TrainingStep(net(), recipe, 3).scaler.is_enabled()
    with autocast(recipe, CPU):
        assert net()(torch.zeros(1, 3, 4, 5)).dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "enabled", "dtype"),
    [("fp16", True, torch.float16), ("bf16", True, torch.bfloat16), ("fp32", False, None)],
)
def test_gpu_uses_the_precision_of_the_recipe(
    precision: str, enabled: bool, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, torch.dtype, bool]] = []

    def record_call(device_type: str, dtype: torch.dtype, enabled: bool) -> None:
        calls.append((device_type, dtype, enabled))

    monkeypatch.setattr(torch, "autocast", record_call)
    autocast(replace(RECIPE, precision=precision), torch.device("cuda"))
    assert [(device_type, on) for device_type, _, on in calls] == [("cuda", enabled)]
    assert dtype is None or calls[0][1] == dtype


def plain_step(batch: DeviceImages, model: nn.Module, **changes: Any) -> TrainingStep:
    recipe = replace(RECIPE, warmup_epochs=0, crop_padding=0, flip=0.0, **changes)
    step = TrainingStep(model, recipe, 3)
    seeded(step)(batch.images, batch.labels, 0)
    return step


def gradients_of(model: nn.Module, batch: DeviceImages) -> list[Tensor]:
    """Return the gradients of a default step, before any clipping."""
    loss = F.cross_entropy(model(normalize(batch.images, 0.5, 0.5)), batch.labels, label_smoothing=0.1)
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(("mode", "exclude_head"), [("norm", False), ("value", False), ("agc", True)])
def test_gradients_are_clipped_as_by_timm(mode: Any, exclude_head: bool) -> None:
    batch, model = random_images(8, (3, 4, 5), 5, generator()), net()
    expected = net()
    for parameter, gradient in zip(expected.parameters(), gradients_of(net(), batch), strict=True):
        parameter.grad = gradient
    dispatch_clip_grad(model_parameters(expected, exclude_head), 0.05, mode=mode)
    plain_step(batch, model, clip_grad=0.05, clip_mode=mode)
    clipped_gradients = [parameter.grad for parameter in model.parameters()]
    originals = gradients_of(net(), batch)
    for clipped, expected_parameter, original in zip(clipped_gradients, expected.parameters(), originals, strict=True):
        assert clipped is not None
        torch.testing.assert_close(clipped, expected_parameter.grad)
        assert exclude_head or not torch.equal(clipped, original)


def test_scaled_gradients_are_unscaled_before_they_are_clipped() -> None:
    batch, model, expected = random_images(8, (3, 4, 5), 5, generator()), net(), net()
    plain_step(batch, expected, clip_grad=0.05)
    step = TrainingStep(model, replace(RECIPE, warmup_epochs=0, crop_padding=0, flip=0.0, clip_grad=0.05), 3)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    seeded(step)(batch.images, batch.labels, 0)
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)


@pytest.mark.parametrize("num_parts", [2, 4, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(num_parts: int) -> None:
    batch, model = random_images(8, (3, 4, 5), 5, generator()), net()
    sizes: list[int] = []
    model.register_forward_hook(lambda _, inputs, output: sizes.append(len(inputs[0])))
    plain_step(batch, model, grad_accum_steps=num_parts)
    assert sizes == [8 // num_parts] * num_parts
    for parameter, gradient in zip(model.parameters(), gradients_of(net(), batch), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_loss_and_accuracy_of_accumulated_steps_are_those_of_the_whole_batch() -> None:
    batch = random_images(8, (3, 4, 5), 5, generator())
    whole, parts = (
        seeded(TrainingStep(net(), replace(RECIPE, grad_accum_steps=number), 3))(batch.images, batch.labels, 0)
        for number in (1, 4)
    )
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("warmup", [False, True])
def test_average_of_the_weights_is_that_of_timm(warmup: bool) -> None:
    batch, model, expected = random_images(8, (3, 4, 5), 5, generator()), net(), net()
    step = TrainingStep(model, replace(RECIPE, ema_decay=0.9, ema_warmup=warmup), 3)
    average = ModelEmaV3(expected, decay=0.9, use_warmup=warmup)
    for iteration in range(4):
        seeded(step)(batch.images, batch.labels, iteration)
        expected.load_state_dict(model.state_dict())
        average.update(expected, step=iteration + 1)
    evaluated = step.evaluated_model
    assert evaluated is not model
    for name, tensor in average.module.state_dict().items():
        assert torch.equal(evaluated.state_dict()[name], tensor)
        assert not torch.equal(model.state_dict()[name], tensor)


def test_without_average_the_model_itself_is_evaluated() -> None:
    step = TrainingStep(net(), RECIPE, 3)
    assert step.evaluated_model is step.model


def test_learning_rate_may_change_with_each_epoch_only() -> None:
    recipe = replace(RECIPE, epochs=6, warmup_epochs=2, warmup_prefix=False, schedule_on_updates=False)
    step, batch = TrainingStep(net(), recipe, 3), random_images(8, (3, 4, 5), 5, generator())
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    timm, _ = create_scheduler_v2(optimizer, "cosine", 6, min_lr=5e-5, warmup_lr=1e-4, warmup_epochs=2)
    assert timm is not None
    for epoch in range(6):
        timm.step(epoch)
        for iteration in range(3 * epoch, 3 * epoch + 3):
            seeded(step)(batch.images, batch.labels, iteration)
            assert step.optimizer.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("num_parts", [1, 4])
@pytest.mark.parametrize("loss", ["jsd", "cross_entropy", "bce"])
def test_splits_of_a_batch_stay_together(loss: Any, num_parts: int) -> None:
    batch, model = random_images(24, (3, 4, 5), 5, generator()), net()
    labels = batch.labels[:8]
    changes: dict[str, Any] = {"aug_splits": 3, "rotation": 5.0, "loss": loss, "grad_accum_steps": num_parts}
    step = TrainingStep(model, replace(RECIPE, warmup_epochs=0, **changes), 3)
    summed, correct = seeded(step)(batch.images, labels, 0)
    reference = net()
    logits = reference(normalize(batch.images, 0.5, 0.5))
    timm: Any = {
        "jsd": JsdCrossEntropy(3, smoothing=0.1),
        "cross_entropy": LabelSmoothingCrossEntropy(0.1),
        "bce": BinaryCrossEntropy(0.1),
    }
    expected = timm[loss](logits, labels.repeat(3))
    torch.testing.assert_close(summed, 8 * expected.detach())
    assert correct == (logits[:8].argmax(1) == labels).sum()
    expected.backward()
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)


def test_step_is_freed_with_its_last_reference() -> None:
    step, batch = TrainingStep(net(), RECIPE, 3), random_images(8, (3, 4, 5), 5, generator())
    step(batch.images, batch.labels, 0)
    reference = weakref.ref(step)
    gc.disable()
    try:
        del step
        assert reference() is None
    finally:
        gc.enable()
