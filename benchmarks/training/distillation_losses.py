"""The losses of knowledge distillation.

In the equations, p and q are the probabilities of student and teacher at temperature T, softmax(logits / T), and t is
an image's label. All losses are means over the batch.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from arch.errors import InputError

STANDARDIZATION_EPSILON = 1e-7  # added to the standard deviation, as in the authors' code

Resolution = tuple[int, int]  # height and width of a stage's output
AttentionMaps = Mapping[Resolution, Tensor]


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Compute T^2 H(q, p) (Hinton et al. 2015, arXiv:1503.02531), where H(q, p) = -sum_c q_c log p_c.

    H differs from the Kullback-Leibler divergence by the teacher's entropy, which does not depend on the student's
    weights, so the gradients are equal. The factor T^2 keeps the scale of the gradient independent of T. A teacher with
    equal logits for all classes amounts to label smoothing.

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


def decoupled_losses(
    logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute T^2 TCKD and T^2 NCKD, the terms of decoupled distillation (Zhao et al. 2022, arXiv:2203.08679).

    TCKD is the Kullback-Leibler divergence of (p_t, 1 - p_t) from (q_t, 1 - q_t). NCKD is the divergence between the
    probabilities of the other classes, p_c / (1 - p_t) and q_c / (1 - q_t). The divergence over all classes is
    KL(q, p) = TCKD + (1 - q_t) NCKD for each image.

    Args:
        logits: The student's logits, (batch, classes).
        teacher_logits: The teacher's logits, (batch, classes).
        labels: int64, (batch,).
        temperature: T.

    Returns:
        The means over the batch, in nats.
    """
    target, others = _split_classes(logits / temperature, labels)
    teacher_target, teacher_others = _split_classes(teacher_logits / temperature, labels)
    target_class = _kl_divergence(_two_classes(target, others), _two_classes(teacher_target, teacher_others))
    return temperature**2 * target_class, temperature**2 * _kl_divergence(others, teacher_others)


def _split_classes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of the labels, (batch, 1), and those of all other classes, (batch, classes - 1)."""
    labels = labels[:, None]
    classes = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, labels), logits.gather(1, classes + (classes >= labels))


def _two_classes(target: Tensor, others: Tensor) -> Tensor:
    """Return logits of two classes, (batch, 2), whose probabilities are p_t and 1 - p_t."""
    return torch.cat([target, others.logsumexp(1, keepdim=True)], 1)


def _kl_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(1), teacher_logits.log_softmax(1), reduction="batchmean", log_target=True)


def standardize(logits: Tensor) -> Tensor:
    """Return the z-scores of each image's logits (Sun et al. 2024, arXiv:2403.01427, algorithm 1).

    Losses of z-scores do not depend on the scale of the logits, which may differ between student and teacher.

    Args:
        logits: (batch, classes).
    """
    deviation = logits.std(1, correction=0, keepdim=True)
    return (logits - logits.mean(1, keepdim=True)) / (deviation + STANDARDIZATION_EPSILON)


def attention_map(features: Tensor) -> Tensor:
    """Compute the sum of the squared channels, divided by its norm (Zagoruyko and Komodakis 2017, arXiv:1612.03928).

    Args:
        features: The output of a stage, (batch, channels, height, width).

    Returns:
        One unit vector per image, (batch, height * width).
    """
    return F.normalize(features.square().sum(1).flatten(1), dim=1)


def attention_loss(maps: AttentionMaps, teacher_maps: AttentionMaps) -> Tensor:
    """Compute the mean squared difference of the attention maps, summed over the stages of equal resolution.

    It is the loss of the authors' code: the squared distance in equation 2 of the paper, divided by the number of
    elements of a map.

    Args:
        maps: The student's attention maps, by resolution.
        teacher_maps: The teacher's attention maps, by resolution.

    Raises:
        InputError: If no resolutions are equal.
    """
    shared = [resolution for resolution in maps if resolution in teacher_maps]
    if not shared:
        raise InputError(
            f"attention transfer needs stages of equal resolution in student ({_resolutions(maps)}) and teacher "
            f"({_resolutions(teacher_maps)}): choose other models, or another method"
        )
    return torch.stack([F.mse_loss(maps[resolution], teacher_maps[resolution]) for resolution in shared]).sum()


def _resolutions(maps: AttentionMaps) -> str:
    return ", ".join(f"{height}x{width}" for height, width in maps) or "none with a feature map"
