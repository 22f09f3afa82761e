"""Knowledge distillation by logits.

With labels y, student probabilities p, temperature T and distillation weight a (alpha), Hinton et al. 2015
(arXiv:1503.02531) minimize

    (1 - a) H(y, p) + a T^2 H(p_teacher(T), p_student(T)),    H(q, p) = -sum_c q_c log p_c,

where p(T) = softmax(logits / T). H differs from the Kullback-Leibler divergence by the teacher's entropy, which does
not depend on the student's weights, so the gradients are equal. The factor T^2 keeps the scale of the second term's
gradient independent of T.
"""

import copy
import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.definition.overrides import PREVIOUS, Distillation
from benchmarks.training.distributed_context import SINGLE_PROCESS, DistributedContext


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Compute T^2 H(p_teacher(T), p_student(T)).

    A teacher with equal logits for all classes amounts to label smoothing.

    Args:
        logits: The student's logits, (batch, classes).
        teacher_logits: The teacher's logits, (batch, classes).
        temperature: T.

    Returns:
        The mean over the batch, in nats.
    """
    target = (teacher_logits / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(logits / temperature, target)


def hard_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute the cross-entropy with the classes that the teacher predicts (Touvron et al. 2021, arXiv:2012.12877).

    Args:
        logits: The student's logits, (batch, classes).
        teacher_logits: The teacher's logits, (batch, classes).
    """
    return F.cross_entropy(logits, teacher_logits.argmax(1))


class Distiller:
    """Computes the training loss of a student from the labels and a teacher.

    The teacher sees the same batch as the student, in evaluation mode, and is not trained.

    Args:
        settings: Teacher, temperature and distillation weight.
        teacher: The teacher on the student's device. None if the teacher is the student after its previous epoch, or
            where it predicts equal probabilities for all classes.
        epochs: Epochs of the full training run.
    """

    def __init__(self, settings: Distillation, teacher: nn.Module | None, epochs: int) -> None:
        self.settings, self.epochs, self.teacher = settings, epochs, teacher
        if teacher is not None:
            teacher.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def alpha(self, epoch: int) -> float:
        """Return the weight of the distillation loss in an epoch.

        A growing weight is alpha (epoch + 1) / epochs (Kim et al. 2021, arXiv:2006.12000). There the teacher is the
        student after its previous epoch, so the first epoch has no teacher and the weight is 0.

        Args:
            epoch: Counted from 0.
        """
        if self.settings.teacher == PREVIOUS and epoch == 0:
            return 0.0
        return self.settings.alpha * ((epoch + 1) / self.epochs if self.settings.growing else 1.0)

    def loss(self, label_loss: Tensor, logits: Tensor, batch: Tensor, epoch: int) -> Tensor:
        """Compute the weighted sum of the label loss and the distillation loss.

        Args:
            label_loss: H(y, p), computed as the recipe defines it.
            logits: The student's logits, (batch, classes).
            batch: Normalized images, (batch, channels, height, width).
            epoch: Counted from 0.
        """
        alpha = self.alpha(epoch)
        if not alpha:
            return label_loss
        with torch.no_grad():
            teacher_logits = torch.zeros_like(logits) if self.teacher is None else self.teacher(batch)
        teacher_logits, logits = teacher_logits.float(), logits.float()
        if self.settings.hard:
            distillation_loss = hard_loss(logits, teacher_logits)
        else:
            distillation_loss = soft_loss(logits, teacher_logits, self.settings.temperature)
        return (1 - alpha) * label_loss + alpha * distillation_loss

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
