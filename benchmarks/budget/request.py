"""`CheckRequest`: the input of a budget check, as plain data."""

from dataclasses import dataclass

from benchmarks.budget.profile import DeviceProfile
from benchmarks.definition.benchmark import Benchmark


@dataclass(frozen=True)
class CheckRequest:
    """A model, and the benchmark and device that it is checked for.

    Attributes:
        model: The MODEL argument of the command, or any description of the model; the verdict repeats it.
        benchmark: Images, recipe and budget.
        device: "cpu", "cuda", "cuda:1"...
        image_counts: Numbers of training and evaluation images. None skips throughput and hours.
        profile: Profile of another device. If given, hours on that device are predicted, and the model is not timed.
        weights: A weights file whose tensors must match those of the model; "" if there is none.

    Raises:
        InputError: If the training images do not fill one batch of the recipe.
    """

    model: str
    benchmark: Benchmark
    device: str
    image_counts: tuple[int, int] | None = None
    profile: DeviceProfile | None = None
    weights: str = ""

    def __post_init__(self) -> None:
        if self.image_counts is not None:
            self.benchmark.recipe.require_full_batch(self.image_counts[0])
