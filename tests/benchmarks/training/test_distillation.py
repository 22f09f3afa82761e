import math
from collections.abc import Iterator
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
from benchmarks.training.checkpoint import Checkpoint, TrainingStopped
from benchmarks.training.distillation import Distiller, hard_loss, soft_loss, weights_digest
from benchmarks.training.distributed_context import DistributedContext
from benchmarks.training.step import DeviceImages
from benchmarks.training.trainer import train

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, warmup_epochs=1, crop_padding=1, label_smoothing=0.0)
TEACHER = RunConfig(parse("resnet8"))
STUDENT, TOLD = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64), torch.tensor([[2.0, 1.0, 0.0]]).double()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logits(seed: int, batch: int = 6, classes: int = 10) -> Tensor:
    return torch.randn(batch, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    [found] = torch.autograd.grad(loss, of)
    return found


def net(spec: str = "resnet8+width=0.5", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(parse(spec).variant(), 10, 1)


def images(count: int = 40, seed: int = 0) -> DeviceImages:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return DeviceImages(pixels, torch.randint(10, (count,), generator=generator))


def taught(net: nn.Module | None = None, epochs: int = 3, **settings: Any) -> Distiller:
    return Distiller(Distillation(**{"teacher": TEACHER, **settings}), net, epochs)


def test_the_soft_loss_is_that_of_an_example_by_hand() -> None:
    # T = 2: the teacher's logits become 1, 1/2, 0 and the student's 1/2, 0, -1/2
    e = math.exp
    told = [e(1.0), e(0.5), 1.0]
    learnt = [e(0.5), 1.0, e(-0.5)]
    entropy = -sum(q / sum(told) * math.log(p / sum(learnt)) for q, p in zip(told, learnt, strict=True))
    assert soft_loss(STUDENT, TOLD, 2.0).item() == pytest.approx(4 * entropy, abs=1e-12)


def test_the_whole_loss_is_that_of_an_example_by_hand() -> None:
    class Says(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return TOLD

    plain = F.cross_entropy(STUDENT, torch.tensor([2]))
    distiller = taught(Says(), temperature=2.0, alpha=0.3)
    # H(y, p) = log(e^2 + e + 1); both nets have the same probabilities, so H at T = 2 is an entropy
    p = [math.exp(x) / sum(map(math.exp, (0.5, 0.0, -0.5))) for x in (0.5, 0.0, -0.5)]
    by_hand = 0.7 * math.log(math.e**2 + math.e + 1) + 0.3 * 4 * -sum(q * math.log(q) for q in p)
    assert distiller.loss(plain, STUDENT, torch.zeros(1, 1), 0).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_its_gradient_is_that_of_the_divergence_and_its_value_that_with_the_teachers_entropy(
    temperature: float,
) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    ours = soft_loss(student, teacher, temperature)
    told = (teacher / temperature).softmax(1)
    learnt = (student / temperature).log_softmax(1)
    divergence = temperature**2 * F.kl_div(learnt, told, reduction="batchmean")
    entropy = -(temperature**2) * (told * told.log()).sum(1).mean()
    torch.testing.assert_close(gradient(ours, student), gradient(divergence, student), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours, divergence + entropy, rtol=1e-12, atol=0)


def test_its_gradient_is_the_one_by_autograd_from_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: soft_loss(x, logits(1), 3.0), logits(0).requires_grad_())


def test_with_t_squared_the_gradient_keeps_its_size_and_without_it_falls_with_t_squared() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    sizes = [gradient(soft_loss(student, teacher, t), student).norm().item() for t in (100.0, 200.0, 400.0)]
    assert sizes == pytest.approx([sizes[0]] * 3, rel=0.01)
    bare = [size / t**2 for size, t in zip(sizes, (100.0, 200.0, 400.0), strict=True)]
    assert bare[0] / bare[1] == pytest.approx(4, rel=0.01)
    # Hinton et al.: at high temperature it is that of matching logits of zero mean, (v - z) / classes
    centred = (student - teacher) - (student - teacher).mean(1, keepdim=True)
    high = gradient(soft_loss(student, teacher, 1e5), student) * len(student)
    torch.testing.assert_close(high, (centred / 10).detach(), rtol=1e-3, atol=1e-4)


def test_the_gradient_is_that_of_timms_own_task() -> None:
    student, teacher = (timm.create_model("test_resnet", num_classes=10) for _ in range(2))
    task = LogitDistillationTask(
        student, teacher, criterion=nn.CrossEntropyLoss(), task_loss_weight=0.1, temperature=4.0, verbose=False
    )
    batch, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 3, 5, 9])
    student.eval()  # the same statistics both times
    weights = [parameter for parameter in student.parameters() if parameter.requires_grad]
    theirs = torch.autograd.grad(task(batch, labels)["loss"], weights)
    distiller = taught(teacher, temperature=4.0, alpha=0.9)
    out = student(batch)
    ours = torch.autograd.grad(distiller.loss(F.cross_entropy(out, labels), out, batch, 0), weights)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_hard_teacher_gives_its_answers_as_labels() -> None:
    student, teacher = logits(0), logits(1)
    assert hard_loss(student, teacher) == F.cross_entropy(student, teacher.argmax(1))
    distiller = Distiller(Distillation(TEACHER, alpha=0.5, hard=True), nn.Identity(), 1)
    plain = torch.tensor(2.0)
    mixed = distiller.loss(plain, student, teacher, 0)
    assert mixed.item() == pytest.approx(0.5 * 2.0 + 0.5 * hard_loss(student, teacher).item(), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_teacher_to_whom_all_classes_are_alike_smooths_labels(smoothing: float) -> None:
    out, labels = logits(0).float(), torch.arange(6)
    plain = F.cross_entropy(out, labels, label_smoothing=smoothing)
    both = smoothing + 0.2 - smoothing * 0.2  # what is left of the label is left of what the recipe has left
    loss = taught(teacher=UNIFORM, temperature=1.0, alpha=0.2).loss(plain, out, out, 0)
    assert loss.item() == pytest.approx(F.cross_entropy(out, labels, label_smoothing=both).item(), rel=1e-6)


def test_a_growing_share_ends_at_alpha() -> None:
    distiller = taught(alpha=0.8, growing=True, epochs=4)
    assert [distiller.alpha(epoch) for epoch in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [taught(alpha=0.8).alpha(epoch) for epoch in range(2)] == [0.8, 0.8]


def test_without_an_epoch_before_there_is_nothing_to_learn_from_oneself() -> None:
    distiller = taught(teacher=PREVIOUS, alpha=0.8)
    assert [distiller.alpha(epoch) for epoch in range(2)] == [0, 0.8]
    plain = torch.tensor(1.5)
    assert distiller.loss(plain, logits(0), logits(0), 0) is plain


def test_the_teacher_sees_the_students_batch_in_evaluation_mode_and_stays_as_it_is() -> None:
    teacher, seen = net("resnet8+dropout=0.5", seed=1), []
    before = weights_digest(teacher)

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = teacher

        def forward(self, batch: Tensor) -> Tensor:
            seen.append((batch.clone(), self.training, torch.is_grad_enabled()))
            return self.net(batch)  # type: ignore[no-any-return]

    student = net()
    given: list[Tensor] = []
    student.register_forward_hook(lambda _, args, __: given.append(args[0].clone()))
    train(student, images(), images(seed=1), RECIPE, seed=0, distiller=taught(Watch()))
    trained_on = [batch for batch in given if len(batch) == RECIPE.batch_size]
    assert len(seen) == len(trained_on) == 6
    assert all(torch.equal(batch, other) for (batch, *_), other in zip(seen, trained_on, strict=True))
    assert not any(training or grad for _, training, grad in seen)
    assert weights_digest(teacher) == before


def test_a_digest_knows_statistics_and_weights() -> None:
    one, other = net(), net()
    assert weights_digest(one) == weights_digest(other)
    one(torch.randn(2, 1, 8, 8))  # a norm's statistics
    assert weights_digest(one) != weights_digest(other)


def test_the_previous_epochs_net_teaches_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    student, distiller, kept = net(), taught(teacher=PREVIOUS, temperature=1.0), []
    begin = distiller.begin_epoch

    def watch(now: nn.Module, context: DistributedContext) -> None:
        begin(now, context)
        assert distiller.teacher is not None
        kept.append((weights_digest(now), weights_digest(distiller.teacher), distiller.teacher.training))

    monkeypatch.setattr(distiller, "begin_epoch", watch)
    train(student, images(), images(seed=1), RECIPE, seed=0, distiller=distiller)
    assert all(now == told and not training for now, told, training in kept)
    assert len({now for now, *_ in kept}) == 1 + RECIPE.epochs  # at the start, and after each epoch


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_stopped_in_the_middle_a_net_that_learns_from_itself_ends_in_the_same_numbers(
    tmp_path: Path, stop_at: int
) -> None:
    def learn(checkpoint: Checkpoint | None) -> tuple[str, list[float]]:
        student = net()
        distiller = taught(teacher=PREVIOUS, alpha=0.8, growing=True)
        curve, _ = train(student, images(), images(seed=1), RECIPE, seed=0, checkpoint=checkpoint, distiller=distiller)
        return weights_digest(student), [epoch.train_loss for epoch in curve]

    batches = 0

    def stopping() -> bool:
        nonlocal batches
        batches += 1
        return batches >= stop_at

    whole = learn(None)
    with pytest.raises(TrainingStopped):
        learn(Checkpoint(tmp_path, {}, stopping=stopping))
    assert learn(Checkpoint(tmp_path, {})) == whole
