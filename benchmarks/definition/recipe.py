"""The training recipe: the hyperparameters that no row of a table can change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from arch.errors import InputError
from benchmarks.definition.added_fields import ADDED, definition_of, has_default
from benchmarks.definition.augmentation import augmentation_problems

OptionValue = bool | int | float | str | tuple[float, ...]  # a value in `Recipe.optimizer_options`
PerChannel = float | tuple[float, ...]  # one number for all channels, or one for each

Probability = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Range = tuple[Positive, Positive]
Interpolation = Literal["random", "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Jitter = tuple[NonNegative, NonNegative, NonNegative, NonNegative]

# field -> another field, and its values without which the first one has no effect
DEPENDENCIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "decay_epochs": ("schedule", ("step",)),
    "decay_rate": ("schedule", ("step", "multistep")),
    "poly_power": ("schedule", ("polynomial",)),
    "cooldown_epochs": ("schedule", ("cosine", "polynomial")),
    "warmup_prefix": ("schedule", ("cosine", "polynomial")),
    "bce_target_threshold": ("loss", ("bce",)),
    "bce_pos_weight": ("loss", ("bce",)),
    "bce_sum": ("loss", ("bce",)),
}


@dataclass(frozen=True)
class Recipe:
    """The training hyperparameters. The defaults are those of the `cifar100` benchmark.

    Training uses mixed precision on a GPU and float32 on a CPU.

    Attributes:
        optimizer: a name in `timm.optim`, such as sgd, adam, adamw, lamb, lion or rmsproptf
        optimizer_options: the optimizer's own arguments, such as `{ betas = [0.9, 0.99], eps = 1e-6 }`
        weight_decay_exclusions: no weight decay on norms, biases and what the model excludes, as in timm's script
        layer_decay: factor of the learning rate from each layer to the one below it; 1: the same for all layers
        clip_grad: limit of the gradients before each update; 0: no clipping
        clip_mode: what clip_grad limits: the norm of all gradients, each value, or agc (adaptive, by layer)
        grad_accum_steps: each batch is computed in this many equal parts, whose gradients are added
        schedule: what follows the warm-up: cosine, step, multistep, polynomial or constant
        decay_epochs: step schedule: epochs between two decays
        decay_rate: step and multistep schedule: factor of the learning rate at each decay
        milestones: multistep schedule: the learning rate decays after these epochs, such as [60, 120, 160]
        poly_power: polynomial schedule: the exponent
        cooldown_epochs: cosine and polynomial schedule: the last epochs, which have the learning rate min_lr
        warmup_prefix: cosine and polynomial schedule: start after the warm-up; false: at the first epoch, as in timm
        schedule_on_updates: the learning rate changes at each update; false: at each epoch, as by default in timm
        loss: cross_entropy, bce (binary cross-entropy of each class), soft_target (smoothed one-hot targets) or jsd
        bce_target_threshold: bce: targets above it become 1 and all others 0
        bce_pos_weight: bce: weight of the correct class relative to the others; unset: 1
        bce_sum: bce: sum over the classes instead of their mean
        ema_decay: decay of an average of the weights, which is evaluated and saved instead of them; 0: no average
        ema_warmup: start with a smaller ema_decay, as timm's warm-up does
        vertical_flip: probability of a vertical flip
        resized_crop_scale: range of the area of random resized crops, such as [0.08, 1.0]; unset: no resized crops
        resized_crop_ratio: range of width / height of random resized crops
        interpolation: of resized crops and auto_augment, by timm's name; random: bilinear or bicubic for each image
        auto_augment: timm's string, such as rand-m9-mstd0.5-inc1, original, v0, 3a or augmix-m5-w4-d2; or trivial
        color_jitter: strength of the random changes of [brightness, contrast, saturation, hue]
        rotation: each image is rotated by at most this many degrees
        rotation_fill: gray level of the corners of a rotated image, from 0 to 255
        erasing: probability that rectangles of an image are erased (timm's reprob)
        erasing_mode: what fills them: const (the mean), rand (a random color) or pixel (noise)
        erasing_count: maximum number of erased rectangles per image
        erasing_keeps_clean: do not erase the clean images of aug_splits (timm's resplit)
        aug_splits: versions of each image in a batch: one that is only cropped and flipped, and augmented ones
        aug_repeats: an epoch has this many times fewer images, and repeats each of them with different draws
        mixup: alpha of mixup; 0: no mixup
        cutmix: alpha of cutmix; 0: no cutmix
        mixup_prob: probability that a batch is mixed
        mixup_switch_prob: probability that a mixed batch has cutmix instead of mixup, if both are set
    """

    epochs: Annotated[int, Ge(1), Le(10_000)] = 200  # passes over the training images
    batch_size: Annotated[int, Ge(2), Le(65_536)] = 256  # images; an incomplete last batch is dropped, as in timm
    lr: Annotated[float, Gt(0)] = 0.5  # peak learning rate, for the whole batch
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9  # momentum of SGD and of other optimizers that have one, as in timm
    nesterov: bool = True  # use Nesterov momentum (sgd only; for other optimizers, see optimizer_options)
    weight_decay: Annotated[float, Ge(0)] = 1e-4  # on all parameters, unless weight_decay_exclusions is set
    warmup_epochs: Annotated[int, Ge(0)] = 5  # linear, per iteration, from warmup_lr to lr
    warmup_lr: Annotated[float, Ge(0)] = 1e-4  # learning rate at the start of the warm-up
    min_lr: Annotated[float, Ge(0)] = 5e-5  # learning rate at the end of the cosine and polynomial schedules
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1  # training only; evaluation uses plain cross-entropy
    crop_padding: Annotated[int, Ge(0), Le(256)] = 4  # black pixels on each side before the random crop
    flip: Annotated[float, Ge(0)] = 0.5  # probability of a horizontal flip
    mean: PerChannel = 0.5  # subtracted from pixels in [0, 1]: one number, or a list with one per channel
    std: PerChannel = 0.5  # pixels are divided by it after subtracting the mean: one number, or one per channel
    precision: str = "fp16"  # on a GPU: "fp16" with a gradient scaler, "bf16" or "fp32"
    world_size: Annotated[int, Ge(1), Le(64)] = 1  # devices that share each batch; the batch size stays the same
    optimizer: str = field(default="sgd", metadata=ADDED)
    optimizer_options: dict[str, OptionValue] = field(default_factory=dict, hash=False, metadata=ADDED)
    weight_decay_exclusions: bool = field(default=False, metadata=ADDED)
    layer_decay: Annotated[float, Gt(0), Le(1)] = field(default=1.0, metadata=ADDED)
    clip_grad: Annotated[float, Ge(0)] = field(default=0.0, metadata=ADDED)
    clip_mode: Literal["norm", "value", "agc"] = field(default="norm", metadata=ADDED)
    grad_accum_steps: Annotated[int, Ge(1), Le(4096)] = field(default=1, metadata=ADDED)
    schedule: Literal["cosine", "step", "multistep", "polynomial", "constant"] = field(default="cosine", metadata=ADDED)
    decay_epochs: Annotated[float, Gt(0)] = field(default=30.0, metadata=ADDED)
    decay_rate: Annotated[float, Gt(0), Le(1)] = field(default=0.1, metadata=ADDED)
    milestones: tuple[float, ...] = field(default=(), metadata=ADDED)
    poly_power: Annotated[float, Gt(0)] = field(default=0.5, metadata=ADDED)
    cooldown_epochs: Annotated[int, Ge(0)] = field(default=0, metadata=ADDED)
    warmup_prefix: bool = field(default=True, metadata=ADDED)
    schedule_on_updates: bool = field(default=True, metadata=ADDED)
    loss: Literal["cross_entropy", "bce", "soft_target", "jsd"] = field(default="cross_entropy", metadata=ADDED)
    bce_target_threshold: Annotated[float, Ge(0), Lt(1)] | None = field(default=None, metadata=ADDED)
    bce_pos_weight: Annotated[float, Gt(0)] | None = field(default=None, metadata=ADDED)
    bce_sum: bool = field(default=False, metadata=ADDED)
    ema_decay: Annotated[float, Ge(0), Lt(1)] = field(default=0.0, metadata=ADDED)
    ema_warmup: bool = field(default=False, metadata=ADDED)
    vertical_flip: Probability = field(default=0.0, metadata=ADDED)
    resized_crop_scale: Range | None = field(default=None, metadata=ADDED)
    resized_crop_ratio: Range = field(default=(3 / 4, 4 / 3), metadata=ADDED)
    interpolation: Interpolation = field(default="random", metadata=ADDED)
    auto_augment: str = field(default="", metadata=ADDED)
    color_jitter: Jitter = field(default=(0.0,) * 4, metadata=ADDED)
    rotation: Annotated[float, Ge(0), Le(180)] = field(default=0.0, metadata=ADDED)
    rotation_fill: Annotated[int, Ge(0), Le(255)] = field(default=0, metadata=ADDED)
    erasing: Probability = field(default=0.0, metadata=ADDED)
    erasing_mode: Literal["const", "rand", "pixel"] = field(default="const", metadata=ADDED)
    erasing_count: Annotated[int, Ge(1), Le(100)] = field(default=1, metadata=ADDED)
    erasing_keeps_clean: bool = field(default=False, metadata=ADDED)
    aug_splits: Annotated[int, Ge(1), Le(16)] = field(default=1, metadata=ADDED)
    aug_repeats: Annotated[float, Ge(1), Le(100)] = field(default=1.0, metadata=ADDED)
    mixup: NonNegative = field(default=0.0, metadata=ADDED)
    cutmix: NonNegative = field(default=0.0, metadata=ADDED)
    mixup_prob: Probability = field(default=1.0, metadata=ADDED)
    mixup_switch_prob: Probability = field(default=0.5, metadata=ADDED)

    def __post_init__(self) -> None:
        if self.precision not in ("fp16", "bf16", "fp32"):
            raise ValueError("precision must be fp16, bf16 or fp32")
        if self.clip_mode != "norm" and not self.clip_grad:
            raise ValueError(f"clip_mode {self.clip_mode} needs clip_grad")
        if self.ema_warmup and not self.ema_decay:
            raise ValueError("ema_warmup needs ema_decay")
        self._check_batch()
        self._check_schedule()
        self._check_normalization()
        self._check_dependencies()
        for problem in augmentation_problems(self):
            raise ValueError(problem)

    def _check_batch(self) -> None:
        if self.batch_size % self.world_size:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of world_size ({self.world_size})")
        if self.batch_size % (self.world_size * self.grad_accum_steps):
            factors = f"grad_accum_steps ({self.grad_accum_steps})"
            factors += f" times world_size ({self.world_size})" if self.world_size > 1 else ""
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of {factors}")

    def _check_schedule(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be fewer than epochs ({self.epochs})")
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) and cooldown_epochs ({self.cooldown_epochs}) must be fewer than "
                f"epochs ({self.epochs})"
            )
        if bool(self.milestones) != (self.schedule == "multistep"):
            raise ValueError("the multistep schedule needs milestones, and no other schedule has them")
        if list(self.milestones) != sorted({*self.milestones}) or any(epoch <= 0 for epoch in self.milestones):
            raise ValueError(f"milestones {list(self.milestones)} must be positive and increasing")

    def _check_normalization(self) -> None:
        if any(mean < 0 for mean in per_channel(self.mean, 1)):
            raise ValueError("mean must be at least 0")
        if any(std <= 0 for std in per_channel(self.std, 1)):
            raise ValueError("std must be greater than 0")

    def _check_dependencies(self) -> None:
        """Reject a field that has no effect, because of the value of another field."""
        for added in fields(self):
            other, values = DEPENDENCIES.get(added.name, ("", ()))
            if other and not has_default(self, added.name) and getattr(self, other) not in values:
                raise ValueError(f"{added.name} needs {other} {' or '.join(values)}")

    def require_full_batch(self, num_images: int, label: str = "") -> None:
        """Check that there are enough training images for one batch, because an incomplete batch is dropped.

        Args:
            num_images: The number of training images.
            label: What trains on the images, such as a row of a table; the message starts with it.

        Raises:
            InputError: If the images do not fill one batch.
        """
        if num_images < self.batch_size:
            prefix = f"{label}: " if label else ""
            raise InputError(f"{prefix}{num_images} training images do not fill one batch of {self.batch_size}")

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed, so that the labels are soft."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def transforms_images(self) -> bool:
        """Whether each image is transformed separately, in the processes of a data loader."""
        return bool(self.resized_crop_scale or self.auto_augment or any(self.color_jitter) or self.rotation)

    @property
    def augments(self) -> bool:
        """Whether the images of an epoch may differ from those of other epochs."""
        draws = self.crop_padding or self.flip or self.vertical_flip or self.erasing
        return bool(draws) or self.mixes or self.transforms_images

    @property
    def images_per_step(self) -> int:
        """Images that the model computes in a training step: the batch in all of its `aug_splits`."""
        return self.batch_size * self.aug_splits

    def definition(self) -> dict[str, Any]:
        """Return the fields that define a benchmark: all except added ones that have their default (see `ADDED`)."""
        return definition_of(self)

    def with_epochs(self, epochs: int, factor: Fraction) -> "Recipe":
        """Return the recipe with another number of epochs and the schedule stretched to them.

        Args:
            epochs: The number of epochs.
            factor: Their ratio to the present number, before rounding. All epochs of the schedule are multiplied by it.
        """
        warmup = min(epochs - 1, round(self.warmup_epochs * factor))
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=warmup,
            cooldown_epochs=min(epochs - 1 - warmup, round(self.cooldown_epochs * factor)),
            decay_epochs=self.decay_epochs * float(factor) if self.schedule == "step" else self.decay_epochs,
            milestones=tuple(epoch * float(factor) for epoch in self.milestones),
        )


def per_channel(value: PerChannel, channels: int) -> tuple[float, ...]:
    """Return one number per channel."""
    return value if isinstance(value, tuple) else (value,) * channels
