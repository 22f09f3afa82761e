"""Knowledge distillation by logits: what a net learns from a teacher beside the labels.

With labels y, student probabilities p, temperature T and the teacher's share a (alpha), Hinton et al. 2015
(arXiv:1503.02531) minimise

    (1 - a) H(y, p) + a T^2 H(p_teacher(T), p_student(T)),    H(q, p) = -sum_c q_c log p_c,

where p(T) = softmax(logits / T). H differs from the Kullback-Leibler divergence by the teacher's own entropy, which no
weight of the student changes: the gradients are equal. T^2 keeps the second term's gradient as large as it is at T = 1.
"""

import copy
import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.overrides import PREVIOUS, Distillation
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 H(p_teacher(T), p_student(T)), the mean over the batch, in nats.

    Both logits are (batch, classes); a teacher whose logits are all equal smooths labels.
    """
    target = (teacher_logits / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(logits / temperature, target)


def hard_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the class that the teacher takes each image for (Touvron et al. 2021, arXiv:2012.12877)."""
    return F.cross_entropy(logits, teacher_logits.argmax(1))


class Distiller:
    """A teacher at work: it sees the same batch as the student, in evaluation mode, and its weights never change."""

    def __init__(self, settings: Distillation, teacher: nn.Module | None, epochs: int) -> None:
        """teacher: on the student's device; None where it is the student of one epoch ago, or knows nothing.

        epochs: of the whole training.
        """
        self.settings, self.epochs, self.teacher = settings, epochs, teacher
        if teacher is not None:
            teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def alpha(self, epoch: int) -> float:
        """The teacher's share in this epoch, counted from 0; growing, it is a (epoch + 1) / epochs.

        That is Kim et al.'s (2021, arXiv:2006.12000), whose teacher is the net of one epoch ago: first none.
        """
        if self.settings.teacher == PREVIOUS and epoch == 0:
            return 0.0
        return self.settings.alpha * ((epoch + 1) / self.epochs if self.settings.growing else 1.0)

    def loss(self, plain: Tensor, logits: Tensor, batch: Tensor, epoch: int) -> Tensor:
        """The whole loss.

        plain: H(y, p), as the recipe has it. logits: the student's, (batch, classes). batch: normalized images.
        """
        alpha = self.alpha(epoch)
        if not alpha:
            return plain
        with torch.no_grad():
            told = torch.zeros_like(logits) if self.teacher is None else self.teacher(batch)
        told, logits = told.float(), logits.float()
        taught = hard_loss(logits, told) if self.settings.hard else soft_loss(logits, told, self.settings.temperature)
        return (1 - alpha) * plain + alpha * taught

    def begin_epoch(self, student: nn.Module, context: DistributedContext = SINGLE_PROCESS) -> None:
        """Keeps the student as it is now, where that is the next epoch's teacher; the same in all processes."""
        if self.settings.teacher != PREVIOUS:
            return
        context.align(student)
        if self.teacher is None:
            self.teacher = copy.deepcopy(student).eval().requires_grad_(False)
        self.teacher.load_state_dict(student.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed training needs of it: weights that are in no file."""
        if self.settings.teacher != PREVIOUS or self.teacher is None:
            return {}
        return {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Goes to where they were taken."""
        kept = {name.removeprefix("teacher."): t for name, t in tensors.items() if name.startswith("teacher.")}
        if kept and self.teacher is not None:
            self.teacher.load_state_dict(kept)


def weights_digest(model: nn.Module) -> str:
    """A hash of all weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
