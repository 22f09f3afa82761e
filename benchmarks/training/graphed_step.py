"""Training steps that are compiled, captured as a CUDA graph, or both, after a check of their numbers."""

from torch import Tensor

from benchmarks.training.compile_mode import (
    CompileModeFailed,
    shut_down_compile_workers,
    uses_compiler,
    uses_graph,
)
from benchmarks.training.cuda_graph import CudaGraph
from benchmarks.training.determinism import nondeterministic_operator
from benchmarks.training.step_check import (
    Step,
    compute_steps,
    layers_draw,
    require_equal,
    require_similar,
    state_restored,
)


class GraphedStep:
    """`TrainingStep.compute`, captured as a CUDA graph with the first batch and replayed with every batch.

    The host then launches one graph in place of hundreds of kernels, which small models would otherwise wait for. The
    first steps are also computed without the graph, and all numbers must be equal.

    Args:
        step: The training step, with the state before its first batch. The state does not change.
        images: The images of the first batch. All batches must have their shape.
        labels: Their labels.
        iteration: Steps since the start of training.

    Raises:
        CompileModeFailed: If the numbers differ.
        RuntimeError: If the step cannot be captured, or there is not enough memory.
    """

    def __init__(self, step: Step, images: Tensor, labels: Tensor, iteration: int) -> None:
        self.step, self.images, self.labels = step, images.clone(), labels.clone()
        self.graph = CudaGraph(step.generator)
        with state_restored(step):
            expected = self.graph.warm_up(lambda: compute_steps(step, step.compute, images, labels, iteration))
        step.optimizer.zero_grad(set_to_none=True)  # the graph's gradients have their own memory
        with state_restored(step), step.rates.as_tensors():
            self.results = self.graph.capture(lambda: step.compute(self.images, self.labels, iteration))
        with state_restored(step):
            actual = compute_steps(step, self, images, labels, iteration)
        require_equal(actual, expected)

    def __call__(self, images: Tensor, labels: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """Compute a batch of the same shape as the first one. See `TrainingStep.compute`."""
        if images.shape != self.images.shape:
            raise ValueError(f"the step was captured for images of shape {(*self.images.shape,)}")
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.step.rates.fill_tensors()
        self.graph.replay()
        loss, correct = self.results
        return loss.clone(), correct.clone()


def prepare(step: Step, images: Tensor, labels: Tensor, iteration: int) -> GraphedStep | None:
    """Compile and check the steps of a training, as its compile mode requires, and return its graph if it has one.

    Args:
        step: The training step, with the state before its first batch. The state does not change.
        images: The images of the first batch.
        labels: Their labels.
        iteration: Steps since the start of training.

    Raises:
        CompileModeFailed: If the compile mode fails, or gives other numbers.
        RuntimeError: If an operator has no deterministic implementation.
    """
    try:
        if uses_compiler(step.compile_mode):
            _check_compiled(step, images, labels, iteration)
            shut_down_compile_workers()
        return GraphedStep(step, images, labels, iteration) if uses_graph(step.compile_mode) else None
    except Exception as error:
        if isinstance(error, RuntimeError) and nondeterministic_operator(error):
            raise
        raise CompileModeFailed((str(error).strip() or type(error).__name__).splitlines()[0]) from error


def _check_compiled(step: Step, images: Tensor, labels: Tensor, iteration: int) -> None:
    """Compare steps of the compiled model, which is compiled here, with those of the model itself."""
    compiled = step.forward
    try:
        step.forward = step.wrapped
        with state_restored(step):
            expected = compute_steps(step, step.compute, images, labels, iteration)
            has_draws = layers_draw(step)
    finally:
        step.forward = compiled
    with state_restored(step):
        actual = compute_steps(step, step.compute, images, labels, iteration)
    step.optimizer.zero_grad(set_to_none=True)
    require_similar(actual, expected, has_draws)
