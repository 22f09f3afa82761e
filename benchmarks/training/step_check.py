"""Check that a faster way to compute training steps gives the numbers of the plain way, from the same state.

The checks leave no trace: weights, buffers, momenta, gradient scaler and random states are as before.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.training.compile_mode import CompileMode, CompileModeFailed
from benchmarks.training.learning_rates import LearningRates

NUM_CHECKED_STEPS = 3  # each with other images, draws and learning rates; torch recommends as many before a capture
# Compiled kernels round differently, so losses and the norm of the gradients may differ by this factor or difference.
MAX_RELATIVE_DIFFERENCE, MAX_DIFFERENCE = 0.05, 0.02
MAX_RELATIVE_DIFFERENCE_OF_DRAWS = 0.5  # compiled layers such as dropout draw other random numbers
MAX_NAMES_IN_MESSAGE = 3


class Computation(Protocol):
    """Computes the gradients of a batch, and maybe the update. See `TrainingStep.compute`."""

    def __call__(self, images: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Return the summed loss and the number of correct predictions."""


class Step(Protocol):
    """What the checks need of a `TrainingStep`, which depends on this module."""

    model: nn.Module
    wrapped: nn.Module
    forward: Callable[..., Any]
    compile_mode: CompileMode
    device: torch.device
    generator: torch.Generator
    optimizer: Optimizer
    rates: LearningRates
    scaler: torch.amp.GradScaler

    def compute(self, images: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """See `TrainingStep.compute`."""

    def set_learning_rates(self, iteration: int, factor: float = 1.0) -> None:
        """See `TrainingStep.set_learning_rates`."""


@contextmanager
def state_restored(step: Step) -> Iterator[None]:
    """Restore the state of a training step at the end, in the same memory."""
    step.scaler.scale(torch.zeros((), device=step.device))  # the scaler creates its tensors at its first use
    scaler, own_generator = step.scaler.state_dict(), step.generator.get_state()
    before = {name: tensor.clone() for name, tensor in _state(step).items()}
    with torch.random.fork_rng([step.device] if step.device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _state(step).items():
                    tensor.copy_(before[name])
            step.scaler.load_state_dict(scaler)
            step.generator.set_state(own_generator)


def compute_steps(
    step: Step, compute: Computation, images: Tensor, labels: Tensor, iteration: int
) -> dict[str, Tensor]:
    """Compute NUM_CHECKED_STEPS steps, and return copies of the results of each and of the final state, by name.

    Args:
        step: The training step whose state changes.
        compute: How to compute each step.
        images: The images of a batch, which are in another order in each step.
        labels: Their labels.
        iteration: The iteration that follows.
    """
    values: dict[str, Tensor] = {}
    for number in range(NUM_CHECKED_STEPS):
        torch.manual_seed(number)
        step.generator.manual_seed(number)
        step.set_learning_rates(iteration, 0.5**number)
        batch = torch.empty_like(images).copy_(images.roll(number, 0))  # in the same layout, which affects rounding
        loss, correct = compute(batch, labels.roll(number, 0), iteration)
        values |= {f"loss of step {number + 1}": loss.clone(), f"accuracy of step {number + 1}": correct.clone()}
    step.set_learning_rates(iteration)
    gradients = {f"gradient of {name}": p.grad for name, p in step.model.named_parameters() if p.grad is not None}
    return values | {name: tensor.detach().clone() for name, tensor in (gradients | _state(step)).items()}


def require_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise CompileModeFailed unless the results of `compute_steps` are equal in every bit."""
    names = list(expected | actual)
    common = actual.keys() & expected.keys()
    different = [name for name in names if name not in common or not _equal(actual[name], expected[name])]
    if different:
        more = ", ..." if len(different) > MAX_NAMES_IN_MESSAGE else ""
        raise CompileModeFailed(
            f"{len(different)} of {len(names)} values differ from those of eager steps: "
            f"{', '.join(different[:MAX_NAMES_IN_MESSAGE])}{more}"
        )


def require_similar(actual: dict[str, Tensor], expected: dict[str, Tensor], has_draws: bool) -> None:
    """Raise CompileModeFailed unless the losses and the norm of all gradients of compiled steps are about the same.

    Args:
        actual: The results of `compute_steps` with the compiled model.
        expected: The results with the model itself.
        has_draws: Whether layers of the model draw random numbers.
    """
    tolerance = MAX_RELATIVE_DIFFERENCE_OF_DRAWS if has_draws else MAX_RELATIVE_DIFFERENCE
    numbers, expected_numbers = _summary(actual), _summary(expected)
    for name, number in numbers.items():
        if not math.isfinite(expected_numbers[name]):  # as usual in the first steps of a gradient scaler
            continue
        if not math.isclose(number, expected_numbers[name], rel_tol=tolerance, abs_tol=MAX_DIFFERENCE):
            raise CompileModeFailed(f"the {name} is {number:.4g}, but {expected_numbers[name]:.4g} in eager mode")


def layers_draw(step: Step) -> bool:
    """Return whether the steps just computed by `compute_steps` have drawn from the device's default generator."""
    is_cuda = step.device.type == "cuda"
    state = torch.cuda.get_rng_state(step.device) if is_cuda else torch.get_rng_state()
    torch.manual_seed(NUM_CHECKED_STEPS - 1)  # as before the last step
    return not torch.equal(state, torch.cuda.get_rng_state(step.device) if is_cuda else torch.get_rng_state())


def _state(step: Step) -> dict[str, Tensor]:
    """Return the tensors that a step changes, except for the gradient scaler's."""
    parameters = dict(step.model.named_parameters())
    optimizer = {
        f"{key} of {name}": value
        for name, parameter in parameters.items()
        for key, value in step.optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    return {**parameters, **dict(step.model.named_buffers()), **optimizer}


def _equal(first: Tensor, second: Tensor) -> bool:
    is_same = (first == second) | ((first != first) & (second != second))  # NaN equals NaN
    return first.shape == second.shape and bool(is_same.all())


def _summary(values: dict[str, Tensor]) -> dict[str, float]:
    losses = {name: tensor.item() for name, tensor in values.items() if name.startswith("loss of")}
    gradients = [tensor.float().norm() for name, tensor in values.items() if name.startswith("gradient of")]
    return losses | {"norm of the gradients": torch.stack(gradients).norm().item()}
