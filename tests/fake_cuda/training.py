"""Train on fake CUDA tensors, and say what is wrong with a training step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from arch.models import build
from arch.spec import Architecture
from arch.timm_net import ImageFormat
from arch.variant import Variant
from benchmarks.definition.recipe import Recipe
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep, random_images
from tests.fake_cuda.device import DEVICE
from tests.fake_cuda.recorder import Recorder

RECIPE = Recipe(epochs=2, batch_size=4, warmup_epochs=1)
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
STEPS_PER_EPOCH = 2


@dataclass(frozen=True)
class Images:
    """The shape of images, and the number of classes."""

    size: int = 32
    channels: int = 3
    num_classes: int = 10

    def random(self, count: int) -> DeviceImages:
        """Return fake images on the device."""
        generator = torch.Generator(DEVICE)
        return random_images(count, (self.channels, self.size, self.size), self.num_classes, generator)

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a model on the CPU."""
        with unset_fake_temporarily():  # some models read values that are computed in their constructor
            return build(architecture, self.num_classes, self.channels, ImageFormat(self.size))


DEFAULT_IMAGES = Images()


def record_step(
    model: nn.Module,
    recipe: Recipe = RECIPE,
    images: Images = DEFAULT_IMAGES,
    options: StepOptions | None = None,
    steps: int = 2,
) -> Recorder:
    """Train a model on a few batches, within `fake_cuda`, and return the record of the last one.

    In the first step, constants are copied to the device, and the state of the optimizer is created.

    Args:
        model: The model.
        recipe: Hyperparameters.
        images: The images to train on.
        options: See `TrainingStep`.
        steps: The number of batches.
    """
    model.to(DEVICE).to(memory_format=torch.channels_last).train()
    step = TrainingStep(model, recipe, STEPS_PER_EPOCH, options)
    batch = images.random(recipe.batch_size)
    for iteration in range(steps):
        with Recorder() as recorder:
            taken = batch.take(torch.randperm(len(batch), device=DEVICE))
            loss, correct = step(torch.cat([taken.images] * recipe.aug_splits), taken.labels, iteration)
    check_results(step, loss, correct)
    return recorder


def check_results(step: TrainingStep, loss: Tensor, correct: Tensor) -> None:
    """Check the types of what a step returns, and of the weights and gradients that it leaves."""
    assert loss.dtype == torch.float32, f"the loss is {loss.dtype}"
    assert correct.dtype == torch.int64
    assert {str(loss.device), str(correct.device)} == {DEVICE}
    trained = [parameter for parameter in step.model.parameters() if parameter.requires_grad]
    assert all(parameter.dtype == torch.float32 for parameter in step.model.parameters())
    for parameter in trained:
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()  # fused optimizers require it


def problems(recorder: Recorder, recipe: Recipe = RECIPE) -> set[str]:
    """Return what is wrong with a recorded training step, in lines such as `float64: mul`."""
    expected = PRECISIONS[recipe.precision]
    found = {f"host waits: {reason}" for reason in recorder.synchronizations}
    found |= {f"not deterministic: {name}" for name in recorder.nondeterministic}
    found |= {f"float64: {name}" for name in recorder.float64}
    found |= {f"layout change: {name}" for name in recorder.layout_changes}
    found |= {f"{name} in {dtype}" for name, dtype in recorder.products if dtype != expected}
    if recorder.nchw_convolutions:
        found.add("convolution: not channels last")
    return found


def shortened(architecture: Architecture) -> Architecture:
    """Return a variant with at most two blocks per stage, because further ones compute nothing new."""
    if not isinstance(architecture, Variant):
        return architecture
    return replace(architecture, depths=tuple(min(depth, 2) for depth in architecture.depths))
