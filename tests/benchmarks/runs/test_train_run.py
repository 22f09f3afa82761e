import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.definition.benchmark import Benchmark, Split, identify
from benchmarks.execution.local import call_each
from benchmarks.execution.progress import Progress, silent
from benchmarks.records.store import RunRecord, RecordStore
from benchmarks.runs.train_run import (changes, on_device)
from benchmarks.runs.dispatch import execute_run
from benchmarks.execution.signals import Terminated
from benchmarks.training import trainer
from benchmarks.training.checkpoint import TrainingStopped, newest, read_tensors, write_tensors
from benchmarks.datasets.cache import CachedDataset
from benchmarks.training.distillation import weights_digest
from benchmarks.training.compile_mode import CompileMode
from benchmarks.training.trainer import Evaluation, TrainingFailed, evaluate
from benchmarks.records.weights_file import digest_of
from benchmarks.definition.overrides import read_run_config
from benchmarks.runs.run import (IfChanged, Run)
from benchmarks.records.paths import initial_file
from benchmarks.definition.versions import versions

SPEC = "resnet8+width=0.5+drop_path=0.2"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """A run makes its process deterministic; the other tests' process is to stay as it was."""
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Nets so small are trained fastest by one, whatever else the machine does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def saved_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.training.checkpoint.COST_SHARE", 0)


@pytest.fixture
def run(tiny: Benchmark, digits: CachedDataset, tmp_path: Path) -> Run:
    known = {"params": 19_000, "macs": 200_000, "predicted_hours": 0.01}
    return Run(read_run_config(SPEC), tiny, 0, digits, "cpu", tmp_path / "runs", "baseline+drop_path", **known)  # type: ignore[arg-type]


def weights(run: Run) -> Path:
    return run.out / "weights" / f"{run.id}.safetensors"


def predictions(run: Run) -> Path:
    return run.out / "predictions" / f"{run.id}.safetensors"


def numbers(result: RunRecord) -> RunRecord:
    """The result without times and memory."""
    curve = [{**epoch, "train_seconds": 0.0, "eval_seconds": 0.0} for epoch in result.curve]
    return replace(result, curve=curve, hours=0.0, images_per_second=0.0, finished="", peak_memory=None)


def place(run: Run) -> tuple[int, int]:
    """Epoch, counted from 0, and batches within it, of the run's checkpoint."""
    loaded = newest(run.checkpoint)
    assert loaded is not None
    return loaded[1]["epoch"], loaded[1]["batch"]


def interrupt(progress: Progress) -> None:
    if progress.done == 1:
        raise KeyboardInterrupt


def test_the_fields_of_a_result_agree(run: Run) -> None:
    result = execute_run(silent, run)
    last = result.curve[-1]
    assert (result.top1, result.top5) == (last["top1"], last["top5"])
    assert [epoch["epoch"] for epoch in result.curve] == [1, 2]
    assert result.images_seen == sum(epoch["images_seen"] for epoch in result.curve) == 2 * 64
    assert list(result.per_class) == list("0123456789")
    assert result.top1 == pytest.approx(np.mean(list(result.per_class.values())))  # five test images of each
    seconds = sum(epoch["train_seconds"] for epoch in result.curve)
    assert result.images_per_second == pytest.approx(128 / seconds)
    assert result.hours == pytest.approx((seconds + sum(epoch["eval_seconds"] for epoch in result.curve)) / 3600)


def test_a_result_says_what_was_run(run: Run) -> None:
    result = execute_run(silent, run)
    assert (result.spec, result.key, result.seed) == (SPEC, run.key, 0)
    assert (result.benchmark, result.plan) == ("tiny", "baseline+drop_path")
    assert result.run_id == run.id
    assert result.benchmark_id == identify(result.definition)
    assert result.definition["data"]["fingerprint"] == run.data.fingerprint
    assert (result.params, result.macs, result.predicted_hours) == (run.params, run.macs, run.predicted_hours)
    assert result.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(result.versions) == {"torch", "timm", "timm-ablate", "python"}
    assert re.fullmatch(r"cpu \(\d+ threads\)", result.device)
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", result.commit)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result.finished)


def test_a_result_can_be_recorded(run: Run) -> None:
    store = RecordStore(run.out)
    store.create()
    result = execute_run(silent, run)
    store.append(result)
    assert store.results() == [result]


def test_the_weights_reach_the_accuracy_again(run: Run) -> None:
    result = execute_run(silent, run)
    tensors, header = read_tensors(weights(run))
    model = build(run.config.architecture, 10, 1)
    model.load_state_dict(tensors)
    _, test = run.data.load(run.benchmark.data, "test")
    split = on_device(test, "cpu")
    evaluation = evaluate(model, split, run.benchmark.recipe)
    assert evaluation.top1 == result.top1
    assert list(evaluation.per_class) == list(result.per_class.values())
    assert (header["spec"], header["run_id"]) == (SPEC, run.id)


def test_the_predictions_reach_the_accuracy_again(run: Run) -> None:
    result = execute_run(silent, run)
    tensors, header = read_tensors(predictions(run))
    assert list(tensors) == ["classes"]
    taken = tensors["classes"]
    assert taken.dtype == torch.int16
    labels = torch.from_numpy(run.data.load(run.benchmark.data, "test")[1].labels)
    right = (taken == labels).double()
    assert 100 * right.mean().item() == result.top1
    assert [100 * right[labels == place].mean().item() for place in range(10)] == list(result.per_class.values())
    assert len(set(taken.tolist())) > 1
    assert (header["spec"], header["run_id"]) == (SPEC, run.id)


def test_the_predictions_are_those_of_the_weights(run: Run) -> None:
    execute_run(silent, run)
    model = build(run.config.architecture, 10, 1)
    model.load_state_dict(read_tensors(weights(run))[0])
    split = on_device(run.data.load(run.benchmark.data, "test")[1], "cpu")
    expected = evaluate(model, split, run.benchmark.recipe).predictions
    assert tuple(read_tensors(predictions(run))[0]["classes"].tolist()) == expected


def test_predictions_that_cannot_be_written_cost_no_training(run: Run) -> None:
    run.out.mkdir()
    (run.out / "predictions").write_text("a file")
    reports: list[Progress] = []
    result = execute_run(reports.append, run)
    [warning] = [report.warning for report in reports if report.warning]
    assert str(predictions(run)) in warning
    assert warning.endswith("the result is recorded without its weights or predictions")
    assert result.top1 == result.curve[-1]["top1"]
    assert weights(run).exists()


def test_where_no_weights_are_wanted_no_predictions_are_kept(run: Run) -> None:
    execute_run(silent, replace(run, keep_weights=False))
    assert not predictions(run).exists()
    assert not weights(run).exists()


def test_more_classes_than_16_bits_hold_are_kept_in_32(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    many, last = 2**15 + 1, 2**15
    data = replace(run.benchmark.data, num_classes=many)
    names = tuple(map(str, range(many)))
    evaluation = Evaluation(1.0, 60.0, 65.0, (60.0,) * many, (last,) * 50)
    monkeypatch.setattr("benchmarks.training.trainer.evaluate", lambda *_: evaluation)
    large = replace(
        run, benchmark=replace(run.benchmark, data=data), data=replace(run.data, classes=names), keep_weights=True
    )
    execute_run(silent, large)
    assert set(read_tensors(predictions(large))[0]["classes"].tolist()) == {last}


def test_a_result_tells_what_its_net_is_made_of(run: Run) -> None:
    run = replace(run, config=read_run_config("resnet8+se"))
    result = execute_run(silent, run)
    net = build(run.config.architecture, 10, 1)
    names = [section["name"] for section in result.architecture]
    assert names == ["stem", "stage 1", "stage 2", "stage 3", "head"]
    assert sum(section["params"] for section in result.architecture) == sum(p.numel() for p in net.parameters())
    assert result.architecture[1]["attention"] == ["SEModule"]
    assert (result.architecture[0]["output"], result.architecture[-1]["output"]) == ([16, 8, 8], [10])
    store = RecordStore(run.out)
    store.create()
    store.append(result)
    [again] = store.results()
    assert again.architecture == result.architecture


def treated(run: Run, settings: str) -> Run:
    return replace(run, config=read_run_config(f"{run.spec}{settings}"))


def initial(run: Run, net: nn.Module, name: str = "") -> str:
    """Keeps weights for a run to start from, by their digest unless there is a name; returns that."""
    written = run.out / "initial" / "given"
    write_tensors(written, net.state_dict(), {})
    name = name or digest_of(written)
    written.rename(initial_file(run.out, name))
    return name


def test_a_part_of_the_images_is_learned_from_and_its_hash_recorded(run: Run) -> None:
    whole, half = execute_run(silent, run), execute_run(silent, treated(run, "@data=1/2"))
    images, _ = run.data.load(run.benchmark.data, "test", Fraction(1, 2))
    assert (half.train_images, half.train_digest) == (len(images), images.digest())
    assert half.train_images * 2 == whole.train_images
    assert half.key != whole.key
    assert half.benchmark_id == whole.benchmark_id
    batch = run.benchmark.recipe.batch_size
    assert half.curve[0]["images_seen"] == half.train_images // batch * batch


def test_more_epochs_change_nothing_else_of_the_recipe(run: Run) -> None:
    longer = execute_run(silent, treated(run, "@epochs=2"))
    assert len(longer.curve) == 2 * run.benchmark.recipe.epochs
    assert longer.definition == run.definition


def test_frozen_layers_stay_as_the_weights_that_a_run_starts_from(run: Run) -> None:
    start = build(parse(run.spec).variant(), 7, 1)  # of another number of classes
    digest = initial(run, start)
    tuned = treated(run, f"@init={digest}@freeze=stem:stages.0")
    result = execute_run(silent, tuned)
    left, before = read_tensors(weights(tuned))[0], start.state_dict()
    frozen = [name for name in left if name.startswith(("stem.", "stages.0."))]
    assert frozen
    assert all(torch.equal(left[name], before[name]) for name in frozen)
    assert not torch.equal(left["stages.1.0.conv1.weight"], before["stages.1.0.conv1.weight"])
    assert len(left["head.fc.bias"]) == 10
    assert result.spec.endswith(f"@init={digest}@freeze=stages.0:stem")


def test_a_run_whose_teacher_has_left_no_weights_says_so(run: Run) -> None:
    with pytest.raises(InputError, match="its teacher resnet8 seed 0 failed, or left no weights"):
        execute_run(silent, treated(run, "@teacher=(resnet8)"))


@pytest.mark.parametrize("header", [{}, {"run_id": "another"}])
def test_weights_that_are_not_the_teachers_own_teach_nobody(run: Run, header: dict[str, str]) -> None:
    student = treated(run, "@teacher=(resnet8)")
    assert student.overrides.teacher is not None
    write_tensors(
        student.weights_of(student.overrides.teacher), build(parse("resnet8").variant(), 10, 1).state_dict(), header
    )
    with pytest.raises(InputError, match="holds the weights of another run: delete it"):
        execute_run(silent, student)


def test_weights_under_the_name_of_others_are_refused(run: Run) -> None:
    initial(run, build(parse(run.spec).variant(), 10, 1), "0123456789abcdef")
    with pytest.raises(InputError, match=r"holds other weights .* than its name says"):
        execute_run(silent, treated(run, "@init=0123456789abcdef"))


def test_a_fresh_classifier_is_not_left_as_it_is(run: Run) -> None:
    digest = initial(run, build(parse(run.spec).variant(), 7, 1))
    with pytest.raises(InputError, match="head: the classifier is a fresh one"):
        execute_run(silent, treated(run, f"@init={digest}@freeze=head"))


def test_a_teacher_of_other_classes_is_refused(run: Run) -> None:
    other = build(parse("resnet8").variant(), 7, 1)
    digest = initial(run, other)
    with pytest.raises(InputError, match="are for 7 classes, this benchmark has 10"):
        execute_run(silent, treated(run, f"@teacher=(resnet8@init={digest}@epochs=0)"))


def test_a_teacher_taken_as_it_is_teaches(run: Run) -> None:
    teacher = build(parse("resnet8").variant(), 10, 1)
    digest = initial(run, teacher)
    result = execute_run(silent, treated(run, f"@teacher=(resnet8@init={digest}@epochs=0)"))
    assert result.overrides["teacher_weights"] == weights_digest(teacher)


@pytest.mark.parametrize("settings", ["@teacher=previous@T=1@alpha=0.8@growing", "@teacher=uniform@T=1@alpha=0.1"])
def test_what_stands_for_a_teacher_changes_the_numbers_and_needs_no_other_net(run: Run, settings: str) -> None:
    plain, taught = execute_run(silent, run), execute_run(silent, treated(run, settings))
    assert taught.numbers() != plain.numbers()
    assert taught.overrides == {}


def test_a_seed_gives_one_result(run: Run, tmp_path: Path) -> None:
    again = replace(run, out=tmp_path / "again")
    assert numbers(execute_run(silent, run)) == numbers(execute_run(silent, again))
    assert weights(run).read_bytes() == weights(again).read_bytes()


def test_the_last_epoch_counts_not_the_best(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([90.0, 60.0])

    def evaluate(*_: object) -> Evaluation:
        score = next(scores)
        return Evaluation(1.0, score, score + 5, (score,) * 10, (int(score) // 10,) * 50)

    monkeypatch.setattr("benchmarks.training.trainer.evaluate", evaluate)
    result = execute_run(silent, run)
    assert [epoch["top1"] for epoch in result.curve] == [90.0, 60.0]
    assert (result.top1, result.top5, result.per_class["3"]) == (60.0, 65.0, 60.0)
    assert set(read_tensors(predictions(run))[0]["classes"].tolist()) == {6}


def test_the_first_weights_follow_from_the_seed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[torch.Tensor] = []

    def note(model: nn.Module, *_: object) -> None:
        first.append(next(model.parameters()).detach().clone())
        raise TrainingFailed

    monkeypatch.setattr("benchmarks.runs.train_run.train", note)
    for seed in (0, 0, 1):
        torch.manual_seed(len(first))  # what was drawn before does not matter
        with pytest.raises(TrainingFailed):
            execute_run(silent, replace(run, seed=seed))
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_another_seed_gives_another_result(run: Run) -> None:
    assert execute_run(silent, run).curve[-1]["loss"] != execute_run(silent, replace(run, seed=1)).curve[-1]["loss"]


@pytest.mark.usefixtures("saved_each_batch")
def test_an_interrupted_run_ends_in_the_same_result(run: Run, tmp_path: Path) -> None:
    broken = replace(run, out=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt, broken)
    assert newest(broken.checkpoint) is not None
    reports: list[Progress] = []
    result = execute_run(reports.append, broken)
    assert [report.done for report in reports] == [1, 2]
    assert numbers(result) == numbers(execute_run(silent, run))
    assert weights(broken).read_bytes() == weights(run).read_bytes()


def at_epoch(epoch: int) -> Callable[[Progress], None]:
    """SIGTERM arrives as this epoch, counted from 0, begins."""

    def report(progress: Progress) -> None:
        if progress.done == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    return report


@pytest.mark.parametrize("epoch", [0, 1])
def test_asked_to_stop_a_run_keeps_the_batch_it_was_at_and_ends_in_the_same_result(
    epoch: int, run: Run, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped = replace(run, out=tmp_path / "stopped")
    with pytest.raises(TrainingStopped):
        execute_run(at_epoch(epoch), stopped)
    assert signal.getsignal(signal.SIGTERM) == before
    assert not weights(stopped).exists()
    assert place(stopped) == (epoch, 1)
    result = execute_run(silent, stopped)
    assert numbers(result) == numbers(execute_run(silent, run))
    assert weights(stopped).read_bytes() == weights(run).read_bytes()


def test_asked_to_stop_a_child_keeps_its_state(run: Run) -> None:
    long = replace(run, benchmark=replace(run.benchmark, recipe=replace(run.benchmark.recipe, epochs=10_000)))
    outcomes: list[object] = []

    def report(number: int, progress: Progress) -> None:
        if progress.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        outcomes.extend(call_each("benchmarks.runs.dispatch:execute_run", [(long,)], 1, report))
    assert outcomes == []
    epoch, batch = place(long)
    assert epoch >= 2
    assert sorted(path.stem for path in long.checkpoint.glob("*.safetensors"))[-1] == f"{3 * epoch + batch:09}"
    assert not list(long.checkpoint.glob(".*"))


def test_a_damaged_checkpoint_is_told_and_costs_no_number(run: Run, tmp_path: Path) -> None:
    broken = replace(run, out=tmp_path / "broken")
    with pytest.raises(TrainingStopped):
        execute_run(at_epoch(1), broken)
    damaged = max(broken.checkpoint.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    reports: list[Progress] = []
    result = execute_run(reports.append, broken)
    assert [f"{damaged} is damaged" in report.warning for report in reports if report.warning] == [True]
    assert numbers(result) == numbers(execute_run(silent, run))


def test_weights_that_cannot_be_written_cost_no_training(run: Run) -> None:
    run.out.mkdir()
    (run.out / "weights").write_text("a file")
    reports: list[Progress] = []
    result = execute_run(reports.append, run)
    [warning] = [report.warning for report in reports if report.warning]
    assert str(weights(run)) in warning
    assert warning.endswith("the result is recorded without its weights or predictions")
    (run.out / "weights").unlink()
    assert numbers(execute_run(silent, run)) == numbers(result)
    assert weights(run).exists()


def test_what_has_diverged_is_not_gone_on_from(run: Run) -> None:
    recipe = replace(run.benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing = replace(run, benchmark=replace(run.benchmark, recipe=recipe))
    with pytest.raises(TrainingFailed, match="the loss is"):
        execute_run(silent, failing)
    assert not failing.checkpoint.exists()


def test_a_run_on_validation_does_not_open_the_test_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = np.load

    def note(file: Path, **kwargs: str) -> object:
        opened.append(file.name)
        return load(file, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("numpy.load", note)
    result = execute_run(silent, replace(run, split="val"))
    assert sorted(opened) == ["train_images.npy", "train_labels.npy"]
    assert result.definition["split"] == "val"
    assert result.images_seen == 2 * 64  # 70 of the 80 images are left


def test_a_diverging_run_fails_without_weights(run: Run) -> None:
    recipe = replace(run.benchmark.recipe, lr=1e30, warmup_epochs=0)
    failing = replace(run, benchmark=replace(run.benchmark, recipe=recipe))
    with pytest.raises(TrainingFailed, match="the loss is"):
        execute_run(silent, failing)
    assert not weights(failing).exists()


def test_a_result_says_how_it_was_trained(run: Run) -> None:
    result = execute_run(silent, replace(run, runs_per_device=4))
    assert (result.compile_mode, result.runs_per_device) == ("eager", 4)
    assert result.peak_memory is None or result.peak_memory > 0


@pytest.mark.parametrize("peak", [12_345, None])
def test_the_peak_of_memory_is_recorded_where_it_is_known(
    peak: int | None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.runs.train_run.PeakMemory.bytes", lambda _: peak)
    assert execute_run(silent, run).peak_memory == peak


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How the nets were executed; all of them as written in truth."""
    found: list[str] = []
    train: Callable[..., Any] = trainer.train

    def note(*arguments: Any) -> Any:
        *before, compile_mode, world, distiller = arguments
        found.append(compile_mode)
        return train(*before, "eager", world, distiller)

    monkeypatch.setattr("benchmarks.runs.train_run.train", note)
    return found


def test_a_run_is_executed_as_its_unit_says(run: Run, executions: list[str]) -> None:
    result = execute_run(silent, replace(run, compile_mode="compile"))
    assert executions == ["compile"]
    assert result.compile_mode == "compile"
    assert read_tensors(weights(run))[1]["compile_mode"] == "compile"


@pytest.mark.usefixtures("saved_each_batch")
@pytest.mark.parametrize("compile_mode", ["eager", "compile"])
def test_a_run_goes_on_as_its_checkpoint_was_executed(compile_mode: CompileMode, run: Run, executions: list[str]) -> None:
    other: CompileMode = "compile" if compile_mode == "eager" else "eager"
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt, replace(run, compile_mode=compile_mode))
    reports: list[Progress] = []
    result = execute_run(reports.append, replace(run, compile_mode=other))
    assert executions == [compile_mode, compile_mode]
    assert result.compile_mode == compile_mode
    assert result.changed == []
    assert [report.done for report in reports] == [1, 2]  # it went on, and did not start anew


# Other versions than a training was begun with.

NOW = versions()
DIFFERS = [f"torch 99.0, now {NOW['torch']}"]


def begun_with(run: Run, found: dict[str, str], monkeypatch: pytest.MonkeyPatch, epoch: int = 1) -> None:
    """Leaves the checkpoint of a run that was made with other versions and stopped after the epoch's first batch."""
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.runs.train_run.versions", lambda: NOW | found)
        with pytest.raises(TrainingStopped):
            execute_run(at_epoch(epoch), run)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ({"torch": "99.0"}, f"torch 99.0, now {NOW['torch']}"),
        ({"timm": "0.1", "python": "2.7"}, f"timm 0.1, now {NOW['timm']}, python 2.7, now {NOW['python']}"),
    ],
)
def test_begun_with_other_versions_a_run_stops_and_names_them(
    found: dict[str, str], names: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with(run, found, monkeypatch)
    before = files_in(run.checkpoint)
    with pytest.raises(TrainingFailed) as raised:
        execute_run(silent, run)
    assert str(raised.value) == f"it was begun with {names}: --if-changed resume or restart decides"
    assert files_in(run.checkpoint) == before
    assert not weights(run).exists()


def test_begun_on_another_device_a_run_stops_and_names_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.runs.train_run.device_name", lambda device: "cpu (99 threads)")
        with pytest.raises(TrainingStopped):
            execute_run(at_epoch(1), run)
    with pytest.raises(TrainingFailed, match=r"^it was begun with device cpu \(99 threads\), now cpu \(\d+ threads\):"):
        execute_run(silent, run)


@pytest.mark.parametrize("epoch", [0, 1])
def test_begun_with_other_versions_a_run_may_go_on_and_says_so(
    epoch: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with(run, {"torch": "99.0"}, monkeypatch, epoch)
    reports: list[Progress] = []
    result = execute_run(reports.append, replace(run, if_changed="resume"))
    assert [report.done for report in reports] == [*range(epoch, 3)]
    assert result.changed == [f"epoch {epoch + 1}: {DIFFERS[0]}"]
    assert read_tensors(weights(run))[1]["changed"] == result.changed
    assert result.versions == NOW
    beside = execute_run(silent, replace(run, out=tmp_path / "beside"))
    assert numbers(result) == numbers(replace(beside, changed=result.changed))  # here nothing has changed in truth


def test_all_changes_in_the_course_of_a_training_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    resuming = replace(run, if_changed="resume")
    begun_with(resuming, {"torch": "98.0"}, monkeypatch, epoch=0)
    begun_with(resuming, {"torch": "99.0"}, monkeypatch, epoch=1)
    result = execute_run(silent, resuming)
    assert result.changed == ["epoch 1: torch 98.0, now 99.0", f"epoch 2: {DIFFERS[0]}"]


def test_once_gone_on_with_a_change_stops_a_run_no_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun_with(run, {"torch": "99.0"}, monkeypatch, epoch=0)
    with pytest.raises(TrainingStopped):
        execute_run(at_epoch(1), replace(run, if_changed="resume"))
    assert changes(silent, [run]) == []
    assert execute_run(silent, run).changed == [f"epoch 1: {DIFFERS[0]}"]


def test_begun_with_other_versions_a_run_may_start_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with(run, {"torch": "99.0"}, monkeypatch)
    reports: list[Progress] = []
    result = execute_run(reports.append, replace(run, if_changed="restart"))
    assert [report.done for report in reports] == [0, 1, 2]
    assert result.changed == []
    assert numbers(result) == numbers(execute_run(silent, replace(run, out=tmp_path / "beside")))


def test_started_anew_and_stopped_nothing_is_left_of_the_other_training(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with(run, {"torch": "99.0"}, monkeypatch)
    with pytest.raises(TrainingStopped):
        execute_run(at_epoch(0), replace(run, if_changed="restart"))
    assert sorted(files_in(run.checkpoint)) == ["000000001.safetensors", "000000001.sha256"]
    assert changes(silent, [run]) == []


@pytest.mark.parametrize("if_changed", ["stop", "resume", "restart"])
def test_where_nothing_has_changed_a_run_goes_on(if_changed: IfChanged, run: Run) -> None:
    with pytest.raises(TrainingStopped):
        execute_run(at_epoch(1), run)
    reports: list[Progress] = []
    result = execute_run(reports.append, replace(run, if_changed=if_changed))
    assert [report.done for report in reports] == [1, 2]
    assert result.changed == []


def test_changes_are_listed_for_each_unit_that_has_some(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [replace(run, seed=seed) for seed in range(4)]  # the last one has no checkpoint
    begun_with(runs[0], {}, monkeypatch)
    begun_with(runs[1], {"torch": "99.0"}, monkeypatch)
    begun_with(runs[2], {"timm": "0.1", "python": "2.7"}, monkeypatch)
    before = [files_in(run.checkpoint) for run in runs[:3]]
    assert changes(silent, runs) == [
        (runs[1].id, DIFFERS),
        (runs[2].id, [f"timm 0.1, now {NOW['timm']}", f"python 2.7, now {NOW['python']}"]),
    ]
    assert [files_in(run.checkpoint) for run in runs[:3]] == before


@pytest.mark.parametrize(("device", "split", "same"), [("cuda:1", "test", False), ("cpu", "val", False)])
def test_a_unit_has_an_id_of_its_own(run: Run, device: str, split: Split, same: bool) -> None:
    assert (replace(run, device=device, split=split).id == run.id) is same


def test_a_unit_is_the_same_on_any_gpu_and_in_any_folder(run: Run) -> None:
    first, second = replace(run, device="cuda:0"), replace(run, device="cuda:1", out=Path("other"), plan="other")
    assert first.id == second.id
    assert first.definition["device"] == "cuda"
    assert json.dumps(first.definition)
