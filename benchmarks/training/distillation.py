"""Knowledge distillation: the training loss of a student that has a teacher.

With the label loss L, temperature T and the losses of `benchmarks.training.distillation_losses`, the methods minimize

    kd:   (1 - alpha) L + alpha T^2 H(q, p)
    dkd:  L + alpha T^2 TCKD + beta T^2 NCKD
    at:   L + beta * distance of the attention maps
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.definition.overrides import PREVIOUS, Distillation
from benchmarks.training.attention_maps import recorded_attention
from benchmarks.training.distillation_losses import (
    Resolution,
    attention_loss,
    decoupled_losses,
    hard_loss,
    soft_loss,
    standardize,
)
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext

# Zhao et al. (arXiv:2203.08679) increase the weights of decoupled distillation over the first 20 of 240 epochs.
DECOUPLED_WARMUP_SHARE = 20 / 240


@dataclass(frozen=True)
class StudentPass:
    """A forward pass of the student.

    Attributes:
        images: Normalized images, (batch, channels, height, width).
        labels: int64, (batch,). Of a mixed image, the label with the larger weight.
        logits: The student's logits, (batch, classes).
        attention_maps: The attention maps of its stages by resolution, if the method uses them.
        teacher_logits: The teacher's logits, (batch, classes). None: the teacher computes them.
    """

    images: Tensor
    labels: Tensor
    logits: Tensor
    attention_maps: Mapping[Resolution, Tensor] = field(default_factory=dict)
    teacher_logits: Tensor | None = None


class Distiller:
    """Computes the training loss of a student from the labels and a teacher.

    The teacher sees the same batch as the student, in evaluation mode, and is not trained. If no image ever changes,
    its logits can be computed before the training (see `benchmarks.training.teacher_logits`).

    Args:
        settings: The teacher and the distillation loss.
        teacher: The teacher on the student's device. None if the teacher is the student after its previous epoch, or
            where it predicts equal probabilities for all classes.
        epochs: Epochs of the full training run.
    """

    def __init__(self, settings: Distillation, teacher: nn.Module | None, epochs: int) -> None:
        self.settings, self.epochs, self.teacher = settings, epochs, teacher
        if teacher is not None:
            teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @property
    def uses_attention(self) -> bool:
        """Whether the loss needs the attention maps of the student's stages."""
        return self.settings.method == "at"

    @property
    def has_fixed_logits(self) -> bool:
        """Whether the loss depends on the teacher's logits only, and these depend on the images only."""
        return self.teacher is not None and not isinstance(self.settings.teacher, str) and not self.uses_attention

    def weight_factor(self, epoch: int) -> float:
        """Return the factor of the weights of the distillation loss in an epoch.

        Growing weights are multiplied by (epoch + 1) / epochs (Kim et al. 2021, arXiv:2006.12000). There the teacher is
        the student after its previous epoch, so the first epoch has no teacher and the factor is 0. Otherwise, the
        weights of decoupled distillation grow during the first twelfth of the epochs.

        Args:
            epoch: Counted from 0.
        """
        if self.settings.teacher == PREVIOUS and epoch == 0:
            return 0.0
        if self.settings.growing:
            return (epoch + 1) / self.epochs
        if self.settings.method == "dkd":
            return min(1.0, (epoch + 1) / (DECOUPLED_WARMUP_SHARE * self.epochs))
        return 1.0

    def loss(self, label_loss: Tensor, student: StudentPass, epoch: int) -> Tensor:
        """Compute the weighted sum of the label loss and the distillation loss.

        Args:
            label_loss: The loss of the labels, computed as the recipe defines it.
            student: The student's forward pass.
            epoch: Counted from 0.

        Raises:
            InputError: If attention is transferred between networks without stages of equal resolution.
        """
        factor, settings = self.weight_factor(epoch), self.settings
        if not factor:
            return label_loss
        if settings.method == "at":
            distance = attention_loss(student.attention_maps, self._teacher_attention(student.images))
            return label_loss + factor * settings.beta * distance
        logits, teacher_logits = student.logits.float(), self._teacher_logits(student).float()
        if settings.standardize:
            logits, teacher_logits = standardize(logits), standardize(teacher_logits)
        if settings.method == "dkd":
            target, others = decoupled_losses(logits, teacher_logits, student.labels, settings.temperature)
            return label_loss + factor * (settings.alpha * target + settings.beta * others)
        if settings.hard:
            distillation_loss = hard_loss(logits, teacher_logits)
        else:
            distillation_loss = soft_loss(logits, teacher_logits, settings.temperature)
        alpha = settings.alpha * factor
        return (1 - alpha) * label_loss + alpha * distillation_loss

    def _teacher_logits(self, student: StudentPass) -> Tensor:
        if student.teacher_logits is not None:
            return student.teacher_logits
        if self.teacher is None:
            return torch.zeros_like(student.logits)
        with torch.no_grad():
            logits: Tensor = self.teacher(student.images)
        return logits

    def _teacher_attention(self, images: Tensor) -> Mapping[Resolution, Tensor]:
        assert self.teacher is not None  # the parser accepts no method but kd without a network as the teacher
        with torch.no_grad(), recorded_attention(self.teacher) as maps:
            self.teacher(images)
        return maps

    def begin_epoch(self, student: nn.Module, context: DistributedContext = SINGLE_PROCESS) -> None:
        """Copy the student's current weights into the teacher, if the teacher is the previous epoch's student.

        Args:
            student: The model that is trained.
            context: Processes that train the student; all of them get the same teacher.
        """
        if self.settings.teacher != PREVIOUS:
            return
        context.broadcast_buffers(student)
        if self.teacher is None:
            self.teacher = copy.deepcopy(student).eval().requires_grad_(False)
        self.teacher.load_state_dict(student.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Return the teacher's weights if no file contains them, with their names in a checkpoint."""
        if self.settings.teacher != PREVIOUS or self.teacher is None:
            return {}
        return {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load the teacher's weights from the tensors of a checkpoint."""
        weights = {name.removeprefix("teacher."): t for name, t in tensors.items() if name.startswith("teacher.")}
        if weights and self.teacher is not None:
            self.teacher.load_state_dict(weights)


def weights_digest(model: nn.Module) -> str:
    """Return a hash of all parameters and buffers, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
