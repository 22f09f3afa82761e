"""Measured performance besides training hours, as plain data: inference, share of the peak throughput, and energy."""

from dataclasses import dataclass, replace

from benchmarks.definition.recipe import Recipe

TRAINING_FLOPS_PER_MAC = 6  # 2 in the forward pass, 4 in the backward pass
JOULES_PER_WATT_HOUR = 3600
DEFAULT_INFERENCE_BATCH = 256


@dataclass(frozen=True)
class Latency:
    """Milliseconds of single calls on one batch, from the images on the device to the logits.

    Attributes:
        batch_size: Images per call.
        calls: Number of timed calls.
        mean: Mean of the calls.
        p50: Median of the calls.
        p99: 99th percentile of the calls; None if there are too few for it.
        images_per_second: Images per call, divided by the mean.
    """

    batch_size: int
    calls: int
    mean: float
    p50: float
    p99: float | None
    images_per_second: float


@dataclass(frozen=True)
class Inference:
    """Measured inference of one model.

    Attributes:
        single: Latency of one image.
        batch: Latency of a larger batch.
        peak_memory: Bytes of all tensors, including the weights, at the peak of inference on the larger batch.
        precision: Precision of the computation.
        device: Name of the device, as torch gives it.
        measured: The date in UTC, ISO 8601.
    """

    single: Latency
    batch: Latency
    peak_memory: int
    precision: str
    device: str
    measured: str


@dataclass(frozen=True)
class PeakThroughput:
    """Measured peak of a device: the FLOP/s of a large matrix product.

    Attributes:
        flops_per_second: Floating-point operations per second.
        precision: Precision of the matrices.
        device: Name of the device, as torch gives it.
        versions: Versions that the peak was measured with.
        measured: The date in UTC, ISO 8601.
    """

    flops_per_second: float
    precision: str
    device: str
    versions: dict[str, str]
    measured: str


@dataclass(frozen=True)
class Utilization:
    """The FLOP/s that training achieves, and their share of the device's measured peak."""

    flops_per_second: float
    share: float
    peak: PeakThroughput


@dataclass(frozen=True)
class Energy:
    """Energy that a device has used, or the reason why it is unknown.

    Attributes:
        joules: None if it was not measured.
        source: What measured it, and of what.
        problem: Why it was not measured.
    """

    joules: float | None = None
    source: str = ""
    problem: str = ""

    def per_image(self, num_images: int) -> "Energy":
        """Return the energy per image of a number of images."""
        return self if self.joules is None else replace(self, joules=self.joules / num_images)


@dataclass(frozen=True)
class TrainingEnergy:
    """Energy of training, without evaluation.

    Attributes:
        joules_per_image: Measured.
        watt_hours: Predicted for all epochs of the recipe.
        source: What measured it, and of what.
    """

    joules_per_image: float
    watt_hours: float
    source: str


def training_flops(macs: int, images_per_second: float, aug_splits: int = 1) -> float:
    """Return the FLOP/s of training: 3 passes x 2 FLOPs per MAC x MACs per image x images per second.

    The backward pass computes about twice as much as the forward pass. Optimizer and augmentation are not counted.

    Args:
        macs: For one image.
        images_per_second: Measured in training.
        aug_splits: Versions of each image that the model computes in a step.
    """
    return TRAINING_FLOPS_PER_MAC * macs * images_per_second * aug_splits


def device_precision(recipe: Recipe, device: str) -> str:
    """Return the precision in which a recipe computes on a device: its own on a GPU, float32 on a CPU."""
    return recipe.precision if device.startswith("cuda") else "fp32"


def format_watt_hours(watt_hours: float) -> str:
    """Format an energy as kWh, Wh or J, depending on its size."""
    if watt_hours >= 1000:
        return f"{watt_hours / 1000:,.2f} kWh"
    return f"{watt_hours:.1f} Wh" if watt_hours >= 1 else f"{JOULES_PER_WATT_HOUR * watt_hours:.3g} J"
