import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from arch.errors import InputError
from benchmarks.training.distillation_losses import (
    attention_loss,
    attention_map,
    decoupled_losses,
    soft_loss,
    standardize,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Vector = NDArray[np.float64]
LABELS = torch.tensor([0, 3, 9, 5, 5, 1])


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def logits(seed: int, batch: int = 6, classes: int = 10) -> Tensor:
    return normal(seed, batch, classes)


def dkd(student: Tensor, teacher: Tensor, temperature: float = 4.0, alpha: float = 1.0, beta: float = 8.0) -> Tensor:
    target, others = decoupled_losses(student, teacher, LABELS[: len(student)], temperature)
    return alpha * target + beta * others


def standardized_kd(student: Tensor, teacher: Tensor) -> Tensor:
    return soft_loss(standardize(student), standardize(teacher), 2.0)


def standardized_dkd(student: Tensor, teacher: Tensor) -> Tensor:
    return dkd(standardize(student), standardize(teacher), 2.0)


def kd(student: Tensor, teacher: Tensor) -> Tensor:
    return soft_loss(student, teacher, 4.0)


LOGIT_LOSSES = (kd, dkd, standardized_kd, standardized_dkd)
LogitLoss = Callable[[Tensor, Tensor], Tensor]


# Decoupled distillation


def test_decoupled_losses_of_a_worked_example() -> None:
    # With T = 2, these logits are log 2, log 1, log 1 and log 6, log 1, log 3.
    student = 2 * torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).log()
    teacher = 2 * torch.tensor([[6.0, 1.0, 3.0]], dtype=torch.float64).log()
    target, others = decoupled_losses(student, teacher, torch.tensor([0]), 2.0)
    # The label has p = 2/4 and q = 6/10. The other classes have p = 1/2, 1/2 and q = 1/4, 3/4.
    assert target.item() == pytest.approx(4 * (0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5)), abs=1e-12)
    assert others.item() == pytest.approx(4 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5)), abs=1e-12)


def probabilities(row: Tensor, temperature: float) -> Vector:
    exponentials: Vector = np.exp(row.numpy() / temperature)
    shares: Vector = exponentials / exponentials.sum()
    return shares


def decoupled_terms(student: Tensor, teacher: Tensor, temperature: float) -> list[tuple[float, float, float]]:
    """Return TCKD, NCKD and 1 - q_t of each image, from its probabilities, as in equations 5 and 6 of the paper."""
    terms = []
    for z_student, z_teacher, label in zip(student, teacher, LABELS.tolist(), strict=True):
        p, q = probabilities(z_student, temperature), probabilities(z_teacher, temperature)
        p_other, q_other = 1 - p[label], 1 - q[label]
        target = q[label] * math.log(q[label] / p[label]) + q_other * math.log(q_other / p_other)
        other_classes = [c for c in range(len(p)) if c != label]
        others = sum(q[c] / q_other * math.log((q[c] / q_other) / (p[c] / p_other)) for c in other_classes)
        terms.append((target, others, q_other))
    return terms


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_losses_equal_the_equations_of_the_paper(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    terms = np.array(decoupled_terms(student, teacher, temperature)).mean(0)
    target, others = decoupled_losses(student, teacher, LABELS, temperature)
    assert target.item() == pytest.approx(temperature**2 * terms[0], rel=1e-12)
    assert others.item() == pytest.approx(temperature**2 * terms[1], rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_the_sum_of_the_decoupled_terms(temperature: float) -> None:
    # KD = TCKD + (1 - q_t) NCKD for each image, so alpha = beta = 1 weights NCKD by more than KD does.
    student, teacher = 3 * logits(0), 3 * logits(1)
    for index, (target, others, q_other) in enumerate(decoupled_terms(student, teacher, temperature)):
        q, p = (probabilities(z[index], temperature) for z in (teacher, student))
        assert float((q * np.log(q / p)).sum()) == pytest.approx(target + q_other * others, rel=1e-10)
        image = slice(index, index + 1)
        ours = decoupled_losses(student[image], teacher[image], LABELS[image], temperature)
        entropy = -float((q * np.log(q)).sum())
        kd = soft_loss(student[image], teacher[image], temperature).item() / temperature**2 - entropy
        assert (ours[0] + q_other * ours[1]).item() / temperature**2 == pytest.approx(kd, rel=1e-9)
        assert dkd(student[image], teacher[image], temperature, 1, 1) >= temperature**2 * kd


def test_other_classes_do_not_depend_on_the_logit_of_the_label() -> None:
    student, teacher = logits(0), logits(1)
    changed = student.clone()
    changed[torch.arange(6), LABELS] += 7
    before, after = (decoupled_losses(z, teacher, LABELS, 4.0) for z in (student, changed))
    assert after[0] > before[0]
    torch.testing.assert_close(after[1], before[1], rtol=1e-12, atol=0)


def test_two_classes_have_no_other_classes_to_compare() -> None:
    target, others = decoupled_losses(logits(0, 3, 2), logits(1, 3, 2), torch.tensor([0, 1, 1]), 4.0)
    assert target > 0
    assert others == 0


# Standardized logits


def test_z_scores_of_a_worked_example() -> None:
    # The mean is 3 and the variance (4 + 1 + 1 + 4) / 4 = 2.5.
    scores = standardize(torch.tensor([[1.0, 2.0, 4.0, 5.0]], dtype=torch.float64))
    expected = [x / math.sqrt(2.5) for x in (-2, -1, 1, 2)]
    assert scores[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_standardized_distillation_equals_the_equations_of_the_paper() -> None:
    student, teacher, total = logits(0), logits(1), 0.0
    for rows in zip(student, teacher, strict=True):
        scores = ((z - z.mean()) / z.sub(z.mean()).square().mean().sqrt() for z in rows)
        p, q = (probabilities(z, 2.0) for z in scores)
        total += 4 * float((q * np.log(q / p)).sum() - (q * np.log(q)).sum()) / len(student)
    assert standardized_kd(student, teacher).item() == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("loss", [standardized_kd, standardized_dkd])
def test_standardized_losses_do_not_depend_on_scale_and_shift(loss: LogitLoss) -> None:
    student, teacher = logits(0), logits(1)
    expected = loss(student, teacher)
    torch.testing.assert_close(loss(100 * student - 3, teacher), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss(student, 0.1 * teacher + 5), expected, rtol=1e-5, atol=0)
    assert abs(dkd(100 * student, teacher) - dkd(student, teacher)) > 1


def test_student_with_scaled_logits_has_no_standardized_loss() -> None:
    assert standardized_dkd(5 * logits(0) + 1, logits(0)).item() == pytest.approx(0, abs=1e-9)
    assert dkd(5 * logits(0) + 1, logits(0)).item() > 1


def test_equal_logits_have_finite_gradients() -> None:
    student = torch.zeros(6, 10, requires_grad=True)
    [gradient] = torch.autograd.grad(standardized_dkd(student, logits(1).float()), student)
    assert gradient.isfinite().all()


# All losses of logits


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_gradients_equal_finite_differences(loss: LogitLoss) -> None:
    assert torch.autograd.gradcheck(lambda x: loss(x, logits(1)), logits(0).requires_grad_())


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_losses_do_not_depend_on_a_shift_of_the_logits(loss: LogitLoss) -> None:
    student, teacher, shift = logits(0), logits(1), logits(2)[:, :1]
    torch.testing.assert_close(loss(student + shift, teacher - 2 * shift), loss(student, teacher), rtol=1e-9, atol=0)


@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_gradient_is_zero_for_the_teachers_logits(loss: LogitLoss) -> None:
    student = logits(1).requires_grad_()
    [gradient] = torch.autograd.grad(loss(student, logits(1)), student)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", LOGIT_LOSSES)
def test_extreme_logits_in_half_precision_give_finite_losses_and_gradients(loss: LogitLoss, dtype: torch.dtype) -> None:
    student = (200 * (logits(0) > 0) - 100).to(dtype).requires_grad_()
    teacher = (200 * (logits(1) > 0) - 100).to(dtype)
    value = loss(student.float(), teacher.float())  # as in `Distiller.loss`
    [gradient] = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_decoupled_losses_at_high_temperature_match_centered_logits() -> None:
    # KL(q, p) of softmaxes is half of the variance under q of the difference of the logits, as T grows.
    student, teacher, temperature = logits(0), logits(1), 1e4
    target, others = decoupled_losses(student, teacher, LABELS, temperature)
    difference = student - teacher
    is_label = F.one_hot(LABELS, 10).bool()
    of_others = difference[~is_label].view(6, 9)
    assert others.item() == pytest.approx(of_others.var(1, correction=0).mean().item() / 2, rel=1e-2)
    gap = difference[is_label] - of_others.mean(1)
    assert target.item() == pytest.approx((0.1 * 0.9 * gap.square()).mean().item() / 2, rel=1e-2)


def test_decoupled_losses_at_low_temperature_compare_the_largest_logits() -> None:
    student = torch.tensor([[3.0, 2.0, 1.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    target, others = decoupled_losses(student, teacher, torch.tensor([0]), 0.01)
    # All of the teacher's probability is on class 2. T times the divergence tends to the student's gap in logits.
    assert target.item() / 0.01 == pytest.approx(1.0, abs=1e-6)  # from class 0 to the larger of 1 and 2
    assert others.item() / 0.01 == pytest.approx(1.0, abs=1e-6)  # from class 1 to class 2


# Attention transfer


def test_attention_map_of_a_worked_example() -> None:
    # Two channels of 1x2 pixels: the sums of the squares are 9 + 9 = 18 and 16 + 8 = 24.
    features = torch.tensor([[[[3.0, 4.0]], [[-3.0, math.sqrt(8)]]]], dtype=torch.float64)
    assert attention_map(features)[0].tolist() == pytest.approx([18 / 30, 24 / 30], rel=1e-12)


def test_attention_loss_of_a_worked_example() -> None:
    maps = {(1, 2): torch.tensor([[0.6, 0.8]]), (2, 2): torch.tensor([[1.0, 0.0, 0.0, 0.0]])}
    teacher_maps = {(2, 2): torch.tensor([[0.0, 1.0, 0.0, 0.0]]), (1, 2): torch.tensor([[0.8, 0.6]])}
    # The squared differences are 0.04 and 0.04, and 1, 1, 0 and 0.
    assert attention_loss(maps, teacher_maps).item() == pytest.approx(0.04 + 0.5, rel=1e-6)


def test_attention_loss_equals_the_equations_of_the_paper() -> None:
    features = [(normal(0, 3, 5, 4, 4), normal(1, 3, 7, 4, 4)), (normal(2, 3, 5, 2, 2), normal(3, 3, 9, 2, 2))]
    expected = 0.0
    for student, teacher in features:
        vectors = [np.array([(image**2).sum(0).ravel() for image in maps.numpy()]) for maps in (student, teacher)]
        q_student, q_teacher = (v / np.sqrt((v**2).sum(1, keepdims=True)) for v in vectors)
        expected += float(((q_student - q_teacher) ** 2).mean())
    maps, teacher_maps = (
        {tuple(f.shape[2:]): attention_map(f) for f in stages} for stages in zip(*features, strict=True)
    )
    assert attention_loss(maps, teacher_maps).item() == pytest.approx(expected, rel=1e-12)


def test_attention_map_does_not_depend_on_scale_and_channels() -> None:
    features = normal(0, 2, 3, 4, 4)
    expected = attention_map(features)
    torch.testing.assert_close(attention_map(-50 * features), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(attention_map(features.repeat(1, 4, 1, 1)), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)


def test_gradient_of_attention_equals_finite_differences() -> None:
    teacher_maps = {(3, 3): attention_map(normal(1, 2, 4, 3, 3))}
    features = normal(0, 2, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention_loss({(3, 3): attention_map(x)}, teacher_maps), features)


def test_attention_of_black_feature_maps_has_a_finite_gradient() -> None:
    features = torch.zeros(1, 2, 3, 3, requires_grad=True)
    [gradient] = torch.autograd.grad(attention_map(features).sum(), features)
    assert gradient.isfinite().all()


def test_only_stages_of_equal_resolution_are_compared() -> None:
    shared = torch.tensor([[1.0, 0.0]])
    maps = {(1, 2): shared, (4, 4): torch.ones(1, 16)}
    assert attention_loss(maps, {(1, 2): shared, (8, 8): torch.zeros(1, 64)}) == 0


def test_networks_without_stages_of_equal_resolution_are_rejected() -> None:
    maps = {(8, 8): torch.ones(1, 64), (4, 4): torch.ones(1, 16)}
    with pytest.raises(InputError, match=r"student \(8x8, 4x4\) and teacher \(7x7\)"):
        attention_loss(maps, {(7, 7): torch.ones(1, 49)})
    with pytest.raises(InputError, match=r"teacher \(none"):
        attention_loss(maps, {})
