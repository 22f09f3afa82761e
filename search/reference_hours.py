"""Hours of candidates on the device that the budget names, predicted from its profile without timing anything."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.budget.profile import DeviceProfile
from benchmarks.definition.benchmark import Benchmark
from benchmarks.definition.overrides import RunConfig

if TYPE_CHECKING:
    from arch.spec import Architecture
    from benchmarks.budget.verdict import PredictedHours


@dataclass(frozen=True)
class ReferenceHours:
    """Predicts the hours of the full recipe, once for each architecture.

    Attributes:
        profile: Profile of the device that the budget names.
        benchmark: Images, recipe and budget.
        image_counts: Numbers of training and test images.
    """

    profile: DeviceProfile
    benchmark: Benchmark
    image_counts: tuple[int, int]
    _predicted: "dict[Architecture, PredictedHours]" = field(default_factory=dict, repr=False, compare=False)

    def predict(self, config: RunConfig) -> "PredictedHours":
        """Return the hours of a candidate. Imports torch, but computes nothing: the model is on the meta device."""
        if config.architecture not in self._predicted:
            import benchmarks.execution.preload  # noqa: F401  # silences warnings of libraries, as in worker processes
            from benchmarks.budget.builders import config_builder
            from benchmarks.budget.prediction import predict_hours

            builder = config_builder(config, self.benchmark)
            hours = predict_hours(builder, self.benchmark, self.profile, self.image_counts)
            self._predicted[config.architecture] = hours
        return self._predicted[config.architecture]
