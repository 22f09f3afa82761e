import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.task import LogitDistillationTask
from torch import Tensor, nn
from torch.nn import functional as F

from arch.models import build
from arch.spec import parse
from benchmarks.definition.overrides import PREVIOUS, UNIFORM, Distillation, RunConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.training.attention_maps import recorded_attention
from benchmarks.training.augment import normalize
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.distillation import Distiller, StudentPass, weights_digest
from benchmarks.training.distillation_losses import decoupled_losses, hard_loss, soft_loss, standardize
from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.step import DeviceImages, StepOptions, TrainingStep
from benchmarks.training.trainer import Splits, TrainingOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1, label_smoothing=0.0)
TEACHER = RunConfig(parse("resnet8"))
STUDENT_LOGITS = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
TEACHER_LOGITS = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)


def logits(seed: int, batch: int = 6, classes: int = 10) -> Tensor:
    return torch.randn(batch, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Tensor, variable: Tensor) -> Tensor:
    [result] = torch.autograd.grad(loss, variable)
    return result


def net(spec: str = "resnet8+width=0.25", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


def images(count: int = 40, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


SPLITS = Splits(images(), images(seed=1))


def student_pass(logits: Tensor, batch: Tensor | None = None) -> StudentPass:
    return StudentPass(logits if batch is None else batch, torch.zeros(len(logits), dtype=torch.int64), logits)


def make_distiller(teacher_net: nn.Module | None = None, epochs: int = 3, **settings: Any) -> Distiller:
    return Distiller(Distillation(**{"teacher": TEACHER, **settings}), teacher_net, epochs)


def test_soft_loss_of_a_worked_example() -> None:
    # With T = 2, the teacher's logits become 1, 1/2, 0 and the student's become 1/2, 0, -1/2.
    e = math.exp
    teacher = [e(1.0), e(0.5), 1.0]
    student = [e(0.5), 1.0, e(-0.5)]
    entropy = -sum(q / sum(teacher) * math.log(p / sum(student)) for q, p in zip(teacher, student, strict=True))
    assert soft_loss(STUDENT_LOGITS, TEACHER_LOGITS, 2.0).item() == pytest.approx(4 * entropy, abs=1e-12)


def test_loss_of_a_worked_example() -> None:
    class ConstantTeacher(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return TEACHER_LOGITS

    label_loss = F.cross_entropy(STUDENT_LOGITS, torch.tensor([2]))
    distiller = make_distiller(ConstantTeacher(), temperature=2.0, alpha=0.3)
    # H(y, p) = log(e^2 + e + 1). Both networks have equal probabilities, so the cross-entropy at T = 2 is an entropy.
    p = [math.exp(x) / sum(map(math.exp, (0.5, 0.0, -0.5))) for x in (0.5, 0.0, -0.5)]
    expected = 0.7 * math.log(math.e**2 + math.e + 1) + 0.3 * 4 * -sum(q * math.log(q) for q in p)
    assert distiller.loss(label_loss, student_pass(STUDENT_LOGITS), 0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_soft_loss_is_kl_divergence_plus_teacher_entropy(temperature: float) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = soft_loss(student, teacher, temperature)
    teacher_probs = (teacher / temperature).softmax(1)
    student_log_probs = (student / temperature).log_softmax(1)
    divergence = temperature**2 * F.kl_div(student_log_probs, teacher_probs, reduction="batchmean")
    entropy = -(temperature**2) * (teacher_probs * teacher_probs.log()).sum(1).mean()
    torch.testing.assert_close(gradient(loss, student), gradient(divergence, student), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(loss, divergence + entropy, rtol=1e-12, atol=0)


def test_soft_loss_gradient_equals_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: soft_loss(x, logits(1), 3.0), logits(0).requires_grad_())


def test_t_squared_keeps_the_scale_of_the_gradient() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    temperatures = (100.0, 200.0, 400.0)
    norms = [gradient(soft_loss(student, teacher, t), student).norm().item() for t in temperatures]
    assert norms == pytest.approx([norms[0]] * 3, rel=0.01)
    without_factor = [norm / t**2 for norm, t in zip(norms, temperatures, strict=True)]
    assert without_factor[0] / without_factor[1] == pytest.approx(4, rel=0.01)
    # Hinton et al.: at high temperature, the gradient is that of matching zero-mean logits, (z - v) / classes.
    centered = (student - teacher) - (student - teacher).mean(1, keepdim=True)
    at_high_temperature = gradient(soft_loss(student, teacher, 1e5), student) * len(student)
    torch.testing.assert_close(at_high_temperature, (centered / 10).detach(), rtol=1e-3, atol=1e-4)


def test_gradient_equals_timms_distillation_task() -> None:
    student, teacher = (timm.create_model("test_resnet", num_classes=10) for _ in range(2))
    task = LogitDistillationTask(
        student, teacher, criterion=nn.CrossEntropyLoss(), task_loss_weight=0.1, temperature=4.0, verbose=False
    )
    batch, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 3, 5, 9])
    student.eval()  # both passes use the same norm statistics
    weights = [parameter for parameter in student.parameters() if parameter.requires_grad]
    timm_gradients = torch.autograd.grad(task(batch, labels)["loss"], weights)
    distiller = make_distiller(teacher, temperature=4.0, alpha=0.9)
    student_logits = student(batch)
    loss = distiller.loss(F.cross_entropy(student_logits, labels), student_pass(student_logits, batch), 0)
    for ours, theirs in zip(torch.autograd.grad(loss, weights), timm_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_hard_loss_uses_the_teachers_predictions_as_labels() -> None:
    student, teacher = logits(0), logits(1)
    assert hard_loss(student, teacher) == F.cross_entropy(student, teacher.argmax(1))
    distiller = Distiller(Distillation(TEACHER, alpha=0.5, hard=True), nn.Identity(), 1)
    loss = distiller.loss(torch.tensor(2.0), student_pass(student, teacher), 0)
    assert loss.item() == pytest.approx(0.5 * 2.0 + 0.5 * hard_loss(student, teacher).item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_uniform_teacher_amounts_to_label_smoothing(smoothing: float) -> None:
    student, labels = logits(0).float(), torch.arange(6)
    label_loss = F.cross_entropy(student, labels, label_smoothing=smoothing)
    total = smoothing + 0.2 - smoothing * 0.2  # alpha = 0.2 applies to the remaining 1 - smoothing
    loss = make_distiller(teacher=UNIFORM, temperature=1.0, alpha=0.2).loss(label_loss, student_pass(student), 0)
    assert loss.item() == pytest.approx(F.cross_entropy(student, labels, label_smoothing=total).item(), rel=1e-6)


def test_growing_weight_ends_at_alpha() -> None:
    distiller = make_distiller(growing=True, epochs=4)
    assert [distiller.weight_factor(epoch) for epoch in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [make_distiller().weight_factor(epoch) for epoch in range(2)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("epochs", "factors"),
    [(240, {0: 1 / 20, 9: 0.5, 19: 1.0, 239: 1.0}), (12, {0: 1.0, 11: 1.0}), (36, {0: 1 / 3, 1: 2 / 3, 2: 1.0})],
)
def test_weights_of_decoupled_distillation_grow_in_the_first_twelfth(epochs: int, factors: dict[int, float]) -> None:
    distiller = make_distiller(method="dkd", epochs=epochs)
    assert {epoch: distiller.weight_factor(epoch) for epoch in factors} == pytest.approx(factors)


def test_decoupled_loss_is_added_to_the_label_loss() -> None:
    student, teacher, labels = logits(0), logits(1), torch.tensor([0, 3, 9, 5, 5, 1])
    distiller = make_distiller(nn.Identity(), method="dkd", temperature=3.0, alpha=0.5, beta=2.0, epochs=24)
    target, others = decoupled_losses(student, teacher, labels, 3.0)
    for epoch, factor in enumerate((0.5, 1.0)):
        loss = distiller.loss(torch.tensor(1.5), StudentPass(teacher, labels, student), epoch)
        assert loss.item() == pytest.approx(1.5 + factor * (0.5 * target + 2 * others).item(), rel=1e-5)


def test_standardized_logits_are_those_of_both_networks() -> None:
    student, teacher = logits(0), logits(1)
    distiller = make_distiller(nn.Identity(), alpha=1.0, standardize=True, temperature=2.0)
    expected = soft_loss(standardize(student), standardize(teacher), 2.0).item()
    assert distiller.loss(torch.tensor(9.0), student_pass(student, teacher), 0).item() == pytest.approx(expected)
    scaled = student_pass(50 * student + 1, 0.1 * teacher)
    assert distiller.loss(torch.tensor(9.0), scaled, 0).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"method": "dkd", "beta": 8.0}, {"standardize": True}], ids=str)
def test_half_precision_logits_of_100_give_finite_losses(settings: dict[str, Any]) -> None:
    student = (200 * (logits(0) > 0) - 100).half().requires_grad_()
    teacher = (200 * (logits(1) > 0) - 100).half()
    loss = make_distiller(nn.Identity(), **settings).loss(torch.tensor(1.0), student_pass(student, teacher), 2)
    assert loss.isfinite()
    assert gradient(loss, student).isfinite().all()


METHODS: dict[str, dict[str, Any]] = {
    "kd": {},
    "standardized kd": {"standardize": True, "temperature": 2.0},
    "dkd": {"method": "dkd", "alpha": 1.0, "beta": 8.0},
    "standardized dkd": {"method": "dkd", "alpha": 1.0, "beta": 8.0, "standardize": True, "temperature": 2.0},
    "at": {"method": "at", "beta": 20.0},  # the default is for images with 16 times as many pixels
}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_a_student_and_brings_it_closer_to_its_teacher(method: str) -> None:
    def train_student(distiller: Distiller | None) -> tuple[nn.Module, float]:
        student = net()
        curve, _ = train(student, SPLITS, RECIPE, 0, TrainingOptions(distiller=distiller))
        return student.eval(), curve[-1].train_loss

    def distance(student: nn.Module) -> float:
        """Return the distillation loss alone, in evaluation mode."""
        batch = normalize(SPLITS.evaluation.images, RECIPE.mean, RECIPE.std)
        with torch.no_grad(), recorded_attention(student) as maps:
            passed = StudentPass(batch, SPLITS.evaluation.labels, student(batch), maps)
        return distiller.loss(torch.tensor(0.0), passed, RECIPE.epochs - 1).item()

    teacher = net("resnet8+width=0.5", seed=1)
    train(teacher, SPLITS, RECIPE, 1)
    distiller = make_distiller(teacher, **METHODS[method])
    student, loss = train_student(distiller)
    alone, loss_alone = train_student(None)
    assert math.isfinite(loss)
    assert loss != loss_alone
    assert distance(student) < distance(alone)


def test_attention_transfer_removes_its_hooks_and_works_with_the_previous_epochs_student() -> None:
    student = net()
    distiller = make_distiller(teacher=PREVIOUS, method="at", beta=1000.0)
    train(student, SPLITS, RECIPE, 0, TrainingOptions(distiller=distiller))
    assert distiller.teacher is not None
    for model in (student, distiller.teacher):
        assert not any(module._forward_hooks for module in model.modules())


def test_labels_of_mixed_images_and_augmented_versions_are_those_with_the_larger_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes = list[StudentPass]()

    def loss(self: Distiller, label_loss: Tensor, student: StudentPass, epoch: int) -> Tensor:
        passes.append(student)
        return label_loss

    monkeypatch.setattr(Distiller, "loss", loss)
    labels = torch.arange(8)
    options = StepOptions(distiller=make_distiller(net(), method="dkd", beta=8.0))
    split = images(8).images
    TrainingStep(net(), replace(RECIPE, mixup=0.8), 3, options)(split, labels, 0)
    assert passes[0].labels.tolist() in (labels.tolist(), labels.flip(0).tolist())
    recipe = replace(RECIPE, aug_splits=2, rotation=5.0)
    TrainingStep(net(), recipe, 3, options)(torch.cat([split, split]), labels, 0)
    assert passes[1].labels.tolist() == [*labels.tolist(), *labels.tolist()]
    assert len(passes[1].logits) == 16


def test_previous_teacher_is_not_used_in_the_first_epoch() -> None:
    distiller = make_distiller(teacher=PREVIOUS, alpha=0.8)
    assert [distiller.weight_factor(epoch) for epoch in range(2)] == [0, 1]
    label_loss = torch.tensor(1.5)
    assert distiller.loss(label_loss, student_pass(logits(0)), 0) is label_loss


def test_teacher_sees_the_students_batches_in_evaluation_mode_and_is_not_changed() -> None:
    teacher, teacher_calls = net("resnet8+width=0.25+dropout=0.5", seed=1), []
    before = weights_digest(teacher)

    class WatchedTeacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = teacher

        def forward(self, batch: Tensor) -> Tensor:
            teacher_calls.append((batch.clone(), self.training, torch.is_grad_enabled()))
            return self.net(batch)  # type: ignore[no-any-return]

    student = net()
    student_batches: list[Tensor] = []
    student.register_forward_hook(lambda _, args, __: student_batches.append(args[0].clone()))
    train(student, SPLITS, RECIPE, 0, TrainingOptions(distiller=make_distiller(WatchedTeacher())))
    training_batches = [batch for batch in student_batches if len(batch) == RECIPE.batch_size]
    assert len(teacher_calls) == len(training_batches) == 6
    assert all(torch.equal(call[0], batch) for call, batch in zip(teacher_calls, training_batches, strict=True))
    assert not any(training or grad for _, training, grad in teacher_calls)
    assert weights_digest(teacher) == before


def test_weights_digest_includes_buffers() -> None:
    one, other = net(), net()
    assert weights_digest(one) == weights_digest(other)
    one(torch.randn(2, 1, 8, 8))  # changes the norm statistics
    assert weights_digest(one) != weights_digest(other)


def test_previous_teacher_has_the_students_weights_of_the_epoch_before(monkeypatch: pytest.MonkeyPatch) -> None:
    student, distiller, digests = net(), make_distiller(teacher=PREVIOUS, temperature=1.0), []
    begin_epoch = distiller.begin_epoch

    def watched_begin_epoch(student: nn.Module, context: DistributedContext) -> None:
        begin_epoch(student, context)
        assert distiller.teacher is not None
        digests.append((weights_digest(student), weights_digest(distiller.teacher), distiller.teacher.training))

    monkeypatch.setattr(distiller, "begin_epoch", watched_begin_epoch)
    train(student, SPLITS, RECIPE, 0, TrainingOptions(distiller=distiller))
    assert all(student == teacher and not training for student, teacher, training in digests)
    assert len({student for student, *_ in digests}) == 1 + RECIPE.epochs  # at the start, and after each epoch


def train_by_previous_teacher(checkpoint: Checkpoint | None) -> tuple[str, list[float]]:
    student, distiller = net(), make_distiller(teacher=PREVIOUS, alpha=0.8, growing=True)
    curve, _ = train(student, SPLITS, RECIPE, 0, TrainingOptions(checkpoint=checkpoint, distiller=distiller))
    return weights_digest(student), [epoch.train_loss for epoch in curve]


@pytest.fixture(scope="module")
def uninterrupted(one_thread: None) -> tuple[str, list[float]]:
    return train_by_previous_teacher(None)


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_resume_with_previous_teacher_gives_identical_metrics(
    tmp_path: Path, stop_at: int, uninterrupted: tuple[str, list[float]]
) -> None:
    calls = itertools.count(1)
    checkpoint = Checkpoint(tmp_path, {}, stopping=lambda: next(calls) >= stop_at)
    with pytest.raises(TrainingStopped):
        train_by_previous_teacher(checkpoint)
    assert train_by_previous_teacher(Checkpoint(tmp_path, {})) == uninterrupted
