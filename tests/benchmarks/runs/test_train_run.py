import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arch.models import build
from benchmarks.budget.energy import EnergyMeter
from benchmarks.budget.performance import Energy, Inference, Latency
from benchmarks.definition.benchmark import identify
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.local import LocalExecutor
from benchmarks.execution.progress import Progress, silent
from benchmarks.execution.signals import Terminated
from benchmarks.records.live_runs import live_file, live_folder, read_live_runs
from benchmarks.records.store import RecordStore, RunRecord
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.models import load_initial_model
from benchmarks.runs.run import Run, record_outcome
from benchmarks.runs.train_run import on_device
from benchmarks.training import trainer
from benchmarks.training.checkpoint import load_newest
from benchmarks.training.compile_mode import CompileMode, CompileModeFailed
from benchmarks.training.distillation import weights_digest
from benchmarks.training.evaluation import Evaluation, evaluate
from benchmarks.training.tensor_file import read_tensors
from benchmarks.training.trainer import TrainingFailed, TrainingOptions


def weights(run: Run) -> Path:
    return run.output_file("weights")


def predictions(run: Run) -> Path:
    return run.output_file("predictions")


def trained_model(run: Run) -> nn.Module:
    model = build(run.config.architecture, 10, 1)
    model.load_state_dict(read_tensors(weights(run))[0])
    return model


def without_times(record: RunRecord) -> RunRecord:
    """Return the record without times, peak memory and energy, which differ between identical runs."""
    curve = [{**epoch, "train_seconds": 0.0, "eval_seconds": 0.0} for epoch in record.curve]
    return replace(record, curve=curve, hours=0.0, images_per_second=0.0, finished="", peak_memory=None, energy={})


def saved_position(run: Run) -> tuple[int, int]:
    """Return the epoch (counted from 0) and the number of its completed batches in a run's checkpoint."""
    loaded = load_newest(run.checkpoint_folder)
    assert loaded is not None
    return loaded[1]["epoch"], loaded[1]["batch"]


def interrupt_second_epoch(progress: Progress) -> None:
    if progress.done == 1:
        raise KeyboardInterrupt


def with_epochs(run: Run, epochs: int) -> Run:
    return replace(run, benchmark=replace(run.benchmark, recipe=replace(run.benchmark.recipe, epochs=epochs)))


def diverging(run: Run) -> Run:
    recipe = replace(run.benchmark.recipe, lr=1e30, warmup_epochs=0)
    return replace(run, benchmark=replace(run.benchmark, recipe=recipe))


# The record


def test_the_numbers_of_a_record_are_consistent(finished_record: RunRecord) -> None:
    record = finished_record
    last = record.curve[-1]
    assert (record.top1, record.top5) == (last["top1"], last["top5"])
    assert [epoch["epoch"] for epoch in record.curve] == [1, 2]
    assert record.images_seen == sum(epoch["images_seen"] for epoch in record.curve) == 2 * 64
    assert list(record.per_class) == list("0123456789")
    assert record.top1 == pytest.approx(np.mean(list(record.per_class.values())))  # five test images of each class
    seconds = sum(epoch["train_seconds"] for epoch in record.curve)
    assert record.images_per_second == pytest.approx(128 / seconds)
    assert record.hours == pytest.approx((seconds + sum(epoch["eval_seconds"] for epoch in record.curve)) / 3600)
    assert record.peak_memory is None or record.peak_memory > 0


@pytest.fixture
def fake_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every energy meter measure 12.5 J."""
    monkeypatch.setattr(EnergyMeter, "__enter__", lambda meter: meter)
    monkeypatch.setattr(EnergyMeter, "__exit__", lambda meter, *_: setattr(meter, "energy", Energy(12.5, "RAPL")))


@pytest.mark.usefixtures("fake_meter")
@pytest.mark.parametrize(("runs_per_device", "energy"), [(1, {"joules": 12.5, "source": "RAPL"}), (2, {})])
def test_a_record_contains_energy_and_inference(runs_per_device: int, energy: dict[str, Any], run: Run) -> None:
    latency = Latency(1, 100, 2.0, 1.5, None, 500.0)
    inference = Inference(latency, latency, 999, "fp32", "cpu", "2026")
    record = execute_run(silent, replace(run, inference=inference, runs_per_device=runs_per_device))
    assert record.energy == energy  # runs that share the device cannot tell their energies apart
    assert record.inference == asdict(inference)


@pytest.mark.usefixtures("fake_meter")
def test_a_resumed_run_has_no_energy(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt_second_epoch, run)
    assert execute_run(silent, run).energy == {}


def test_a_record_describes_its_run(finished_run: Run, finished_record: RunRecord) -> None:
    run, record = finished_run, finished_record
    assert (record.spec, record.key, record.seed) == (run.spec, run.key, 0)
    assert (record.benchmark, record.plan) == ("tiny", "baseline+drop_path")
    assert record.run_id == run.id
    assert record.benchmark_id == identify(record.definition)
    assert record.definition["data"]["fingerprint"] == run.data.fingerprint
    assert (record.params, record.macs, record.predicted_hours) == (run.params, run.macs, run.predicted_hours)
    assert (record.compile_mode, record.runs_per_device) == ("eager", 1)
    assert record.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(record.versions) == {"torch", "timm", "timm-ablate", "python"}
    assert re.fullmatch(r"cpu \(\d+ threads?\)", record.device)
    assert re.fullmatch(r"([0-9a-f]{12}\+?)?", record.commit)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record.finished)


@pytest.mark.filterwarnings("ignore:put_ does not have")
def test_a_record_names_an_operator_that_is_not_deterministic(
    run: Run, finished_record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object) -> None:
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))

    def model_with_put(*arguments: Any) -> nn.Module:
        model = load_initial_model(*arguments)
        model.register_forward_pre_hook(put)
        return model

    monkeypatch.setattr("benchmarks.runs.train_run.load_initial_model", model_with_put)
    reports: list[Progress] = []
    record = execute_run(reports.append, run)
    assert record.nondeterministic_operator == "put_"
    assert finished_record.nondeterministic_operator == ""
    assert record.curve[0]["train_loss"] == finished_record.curve[0]["train_loss"]
    assert sum("put_" in progress.warning for progress in reports) == 1


def test_a_run_uses_its_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def stop(device: str) -> None:
        used.append(device)
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.runs.train_run.use_device", stop)
    with pytest.raises(KeyboardInterrupt):
        execute_run(silent, replace(run, device="cuda:1"))
    assert used == ["cuda:1"]


def test_a_record_can_be_stored(finished_record: RunRecord, tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.create()
    store.append(finished_record)
    assert store.records() == [finished_record]


def test_a_record_contains_the_sections_of_the_model(run: Run) -> None:
    run = replace(run, config=read_run_config("resnet8+se"), runs_per_device=4)
    record = execute_run(silent, run)
    model = build(run.config.architecture, 10, 1)
    names = [section["name"] for section in record.architecture]
    assert names == ["stem", "stage 1", "stage 2", "stage 3", "head"]
    assert sum(section["params"] for section in record.architecture) == sum(p.numel() for p in model.parameters())
    assert record.architecture[1]["attention"] == ["SEModule"]
    assert (record.architecture[0]["output"], record.architecture[-1]["output"]) == ([16, 8, 8], [10])
    assert record.runs_per_device == 4
    store = RecordStore(run.out)
    store.create()
    store.append(record)
    [read_record] = store.records()
    assert read_record.architecture == record.architecture


@pytest.mark.parametrize("peak", [12_345, None])
def test_the_peak_memory_is_recorded_if_it_is_known(
    peak: int | None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.runs.train_run.PeakMemory.bytes", lambda *_: peak)
    assert execute_run(silent, run).peak_memory == peak


def test_the_last_epoch_is_recorded_not_the_best(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([90.0, 60.0])

    def evaluate(*_: object) -> Evaluation:
        top1 = next(accuracies)
        return Evaluation(1.0, top1, top1 + 5, (top1,) * 10, (int(top1) // 10,) * 50)

    monkeypatch.setattr("benchmarks.training.trainer.evaluate", evaluate)
    record = execute_run(silent, run)
    assert [epoch["top1"] for epoch in record.curve] == [90.0, 60.0]
    assert (record.top1, record.top5, record.per_class["3"]) == (60.0, 65.0, 60.0)
    assert set(read_tensors(predictions(run))[0]["classes"].tolist()) == {6}


def test_a_run_on_the_validation_split_does_not_open_the_test_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = np.load

    def note(file: Path, **kwargs: str) -> object:
        opened.append(file.name)
        return load(file, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("numpy.load", note)
    record = execute_run(silent, replace(run, split="val"))
    assert sorted(opened) == ["train_images.npy", "train_labels.npy"]
    assert record.definition["split"] == "val"
    assert record.images_seen == 2 * 64  # 70 of the 80 images remain


# Weights and predictions


def test_the_weights_reproduce_the_accuracy_and_the_predictions(finished_run: Run, finished_record: RunRecord) -> None:
    run = finished_run
    split = on_device(run.data.load(run.benchmark.data, "test")[1], "cpu")
    evaluation = evaluate(trained_model(run), split, run.benchmark.recipe)
    assert evaluation.top1 == finished_record.top1
    assert list(evaluation.per_class) == list(finished_record.per_class.values())
    assert tuple(read_tensors(predictions(run))[0]["classes"].tolist()) == evaluation.predictions
    _, header = read_tensors(weights(run))
    assert (header["spec"], header["run_id"]) == (run.spec, run.id)


def test_the_predictions_reproduce_the_accuracy(finished_run: Run, finished_record: RunRecord) -> None:
    run = finished_run
    tensors, header = read_tensors(predictions(run))
    assert set(tensors) == {"classes", "labels"}
    classes = tensors["classes"]
    assert classes.dtype == torch.int16
    labels = torch.from_numpy(run.data.load(run.benchmark.data, "test")[1].labels)
    assert torch.equal(tensors["labels"], labels.to(torch.int16))
    correct = (classes == labels).double()
    assert 100 * correct.mean().item() == finished_record.top1
    per_class = [100 * correct[labels == index].mean().item() for index in range(10)]
    assert per_class == list(finished_record.per_class.values())
    assert len(set(classes.tolist())) > 1
    assert (header["spec"], header["run_id"]) == (run.spec, run.id)


def test_more_classes_than_16_bits_hold_are_stored_in_32(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    num_classes, last = 2**15 + 1, 2**15
    data = replace(run.benchmark.data, num_classes=num_classes)
    names = tuple(map(str, range(num_classes)))
    evaluation = Evaluation(1.0, 60.0, 65.0, (60.0,) * num_classes, (last,) * 50)
    monkeypatch.setattr("benchmarks.training.trainer.evaluate", lambda *_: evaluation)
    large = replace(run, benchmark=replace(run.benchmark, data=data), data=replace(run.data, classes=names))
    execute_run(silent, large)
    assert set(read_tensors(predictions(large))[0]["classes"].tolist()) == {last}


def test_a_run_that_keeps_no_weights_writes_neither_file(run: Run) -> None:
    execute_run(silent, replace(run, keep_weights=False))
    assert not predictions(run).exists()
    assert not weights(run).exists()


@pytest.mark.parametrize("folder", ["weights", "predictions"])
def test_a_file_that_cannot_be_written_is_a_warning(folder: str, run: Run, finished_record: RunRecord) -> None:
    run.out.mkdir()
    (run.out / folder).write_text("a file in place of the folder")
    reports: list[Progress] = []
    record = execute_run(reports.append, run)
    [warning] = [report.warning for report in reports if report.warning]
    assert str(run.out / folder) in warning
    assert without_times(record) == without_times(finished_record)
    assert weights(run).exists() is (folder == "predictions")


def test_missing_weights_are_written_by_the_next_attempt(run: Run, finished_record: RunRecord) -> None:
    run.out.mkdir()
    (run.out / "weights").write_text("a file in place of the folder")
    execute_run(silent, run)
    (run.out / "weights").unlink()
    assert without_times(execute_run(silent, run)) == without_times(finished_record)
    assert weights(run).exists()


# Seeds


def test_a_seed_gives_identical_records_and_weights(run: Run, finished_run: Run, finished_record: RunRecord) -> None:
    assert without_times(execute_run(silent, run)) == without_times(finished_record)
    assert weights(run).read_bytes() == weights(finished_run).read_bytes()


def test_another_seed_gives_another_record(run: Run, finished_record: RunRecord) -> None:
    assert execute_run(silent, replace(run, seed=1)).curve[-1]["loss"] != finished_record.curve[-1]["loss"]


def test_the_initial_weights_depend_only_on_the_seed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    initial: list[torch.Tensor] = []

    def note(model: nn.Module, *_: object) -> None:
        initial.append(next(model.parameters()).detach().clone())
        raise TrainingFailed

    monkeypatch.setattr("benchmarks.runs.train_run.train", note)
    for seed in (0, 0, 1):
        torch.manual_seed(len(initial))  # earlier random draws must not matter
        with pytest.raises(TrainingFailed):
            execute_run(silent, replace(run, seed=seed))
    assert torch.equal(initial[0], initial[1])
    assert not torch.equal(initial[0], initial[2])


# Interruptions


@pytest.mark.usefixtures("save_after_each_batch")
def test_an_interrupted_run_resumes_to_the_identical_record(
    run: Run, finished_run: Run, finished_record: RunRecord
) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt_second_epoch, run)
    assert load_newest(run.checkpoint_folder) is not None
    reports: list[Progress] = []
    record = execute_run(reports.append, run)
    assert [report.done for report in reports] == [1, 2]
    assert without_times(record) == without_times(finished_record)
    assert weights(run).read_bytes() == weights(finished_run).read_bytes()


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_stopped_run_saves_its_batch_and_resumes_to_the_identical_record(
    epoch: int, run: Run, finished_run: Run, finished_record: RunRecord, stop_run: Callable[[Run, int], None]
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    stop_run(run, epoch)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert not weights(run).exists()
    assert saved_position(run) == (epoch, 1)
    assert without_times(execute_run(silent, run)) == without_times(finished_record)
    assert weights(run).read_bytes() == weights(finished_run).read_bytes()


def test_a_stopped_worker_saves_its_state(run: Run) -> None:
    long = with_epochs(run, 10_000)

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        LocalExecutor().call("benchmarks.runs.dispatch:execute_run", stop, long)
    epoch, batch = saved_position(long)
    assert epoch >= 2
    files = sorted(path.stem for path in long.checkpoint_folder.glob("*.safetensors"))
    assert files[-1] == f"{3 * epoch + batch:09}"
    assert not list(long.checkpoint_folder.glob(".*"))


@pytest.mark.slow
@pytest.mark.usefixtures("save_after_each_batch")
def test_a_run_with_loader_processes_resumes_to_the_identical_record(run: Run, tmp_path: Path) -> None:
    augmented = {"rotation": 20.0, "auto_augment": "rand-m9-mstd0.5-inc1", "mixup": 0.2, "erasing": 0.2}
    recipe = replace(run.benchmark.recipe, epochs=4, **augmented)  # type: ignore[arg-type]
    run = replace(run, benchmark=replace(run.benchmark, recipe=recipe))
    function = "benchmarks.runs.dispatch:execute_run"

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        LocalExecutor().call(function, stop, run)
    assert saved_position(run)[0] >= 2
    other = replace(run, out=tmp_path / "other")
    resumed, uninterrupted = (LocalExecutor().call(function, silent, each) for each in (run, other))
    assert without_times(resumed) == without_times(uninterrupted)
    assert weights(run).read_bytes() == weights(other).read_bytes()


def test_a_damaged_checkpoint_is_a_warning_and_changes_no_number(
    run: Run, finished_record: RunRecord, stop_run: Callable[[Run, int], None]
) -> None:
    stop_run(run, 1)
    damaged = max(run.checkpoint_folder.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    reports: list[Progress] = []
    record = execute_run(reports.append, run)
    [warning] = [report.warning for report in reports if report.warning]
    assert str(damaged) in warning
    assert without_times(record) == without_times(finished_record)


def test_a_diverging_run_fails_without_weights_or_checkpoint(run: Run) -> None:
    failing = diverging(run)
    with pytest.raises(TrainingFailed, match="the loss is"):
        execute_run(silent, failing)
    assert not weights(failing).exists()
    assert not failing.checkpoint_folder.exists()


# Compile modes


@pytest.fixture
def compile_modes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that records the requested compile modes, and train all runs in eager mode."""
    modes: list[str] = []
    train: Callable[..., Any] = trainer.train

    def note(*args: Any) -> Any:
        *others, options = args
        assert isinstance(options, TrainingOptions)
        modes.append(options.compile_mode)
        return train(*others, replace(options, compile_mode="eager"))

    monkeypatch.setattr("benchmarks.runs.train_run.train", note)
    return modes


@pytest.mark.usefixtures("save_after_each_batch")
@pytest.mark.parametrize("compile_mode", ["eager", "compile"])
def test_a_run_resumes_with_the_compile_mode_of_its_checkpoint(
    compile_mode: CompileMode, run: Run, compile_modes: list[str]
) -> None:
    other: CompileMode = "compile" if compile_mode == "eager" else "eager"
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt_second_epoch, replace(run, compile_mode=compile_mode))
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, compile_mode=other))
    assert compile_modes == [compile_mode, compile_mode]
    assert record.compile_mode == compile_mode
    assert read_tensors(weights(run))[1]["compile_mode"] == compile_mode
    assert record.resumed_with_changes == []
    assert [report.done for report in reports] == [1, 2]  # resumed, not started again


def test_a_run_whose_compile_mode_fails_trains_in_eager_mode(run: Run, finished_record: RunRecord) -> None:
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, compile_mode="cuda_graphs"))  # not possible on a CPU
    assert record.compile_failure.startswith("compile mode cuda_graphs failed: ")
    assert without_times(replace(record, compile_failure="")) == without_times(finished_record)
    (warning,) = {report.warning for report in reports} - {""}
    assert record.compile_failure in warning
    assert "eager" in warning


@pytest.mark.usefixtures("save_after_each_batch")
def test_a_resumed_run_remembers_that_its_compile_mode_failed(run: Run, finished_record: RunRecord) -> None:
    run = replace(run, compile_mode="cuda_graphs")
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt_second_epoch, run)
    record = execute_run(silent, run)
    assert record.compile_failure.startswith("compile mode cuda_graphs failed: ")
    assert without_times(replace(record, compile_failure="")) == without_times(finished_record)


@pytest.mark.usefixtures("save_after_each_batch")
def test_a_resumed_run_that_cannot_be_compiled_any_more_records_the_change(
    run: Run, compile_modes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute_run(interrupt_second_epoch, replace(run, compile_mode="compile"))
    train = trainer.train

    def fail_to_compile(*args: Any) -> Any:
        if args[-1].compile_mode == "compile":
            raise CompileModeFailed("no C++ compiler")
        return train(*args)

    monkeypatch.setattr("benchmarks.runs.train_run.train", fail_to_compile)
    record = execute_run(silent, replace(run, compile_mode="compile"))
    assert compile_modes == ["compile"]
    assert (record.compile_mode, record.compile_failure) == ("eager", "compile mode compile failed: no C++ compiler")
    assert record.resumed_with_changes == ["epoch 2: compile mode compile, now eager"]


# Overrides


def overridden(run: Run, settings: str) -> Run:
    return replace(run, config=read_run_config(f"{run.spec}{settings}"))


def test_a_run_on_a_fraction_of_the_data_records_its_images(run: Run, finished_record: RunRecord) -> None:
    half = execute_run(silent, overridden(run, "@data=1/2"))
    images, _ = run.data.load(run.benchmark.data, "test", Fraction(1, 2))
    assert (half.train_images, half.train_digest) == (len(images), images.digest())
    assert half.train_images * 2 == finished_record.train_images
    assert half.key != finished_record.key
    assert half.benchmark_id == finished_record.benchmark_id
    batch_size = run.benchmark.recipe.batch_size
    assert half.curve[0]["images_seen"] == half.train_images // batch_size * batch_size


def test_the_seed_of_a_run_draws_its_images_also_when_it_resumes(
    run: Run, stop_run: Callable[[Run, int], None], tmp_path: Path
) -> None:
    drawn = replace(overridden(run, "@data=1/2@drawn"), seed=3)
    stop_run(drawn, 1)
    resumed = execute_run(silent, drawn)
    images, _ = run.data.load(run.benchmark.data, "test", Fraction(1, 2), 3)
    assert (resumed.train_images, resumed.train_digest) == (len(images), images.digest())
    uninterrupted = execute_run(silent, replace(drawn, out=tmp_path / "other", runs_per_device=2))
    assert resumed.numbers() == uninterrupted.numbers()
    assert execute_run(silent, replace(drawn, seed=4)).train_digest != resumed.train_digest
    fixed = execute_run(silent, replace(overridden(run, "@data=1/2"), seed=3))
    assert fixed.train_images == resumed.train_images
    assert fixed.train_digest != resumed.train_digest


def test_a_run_starts_from_the_weights_of_its_initial_run_also_when_it_resumes(
    run: Run, stop_run: Callable[[Run, int], None], tmp_path: Path
) -> None:
    continued = overridden(run, f"@init=({run.spec}@data=1/2)")
    [first] = [replace(run, config=config) for config in continued.config.dependencies]
    execute_run(silent, first)
    stop_run(continued, 1)
    resumed = execute_run(silent, continued)
    assert resumed.overrides == {
        "initial_run": first.spec,
        "initial_run_key": first.key,
        "initial_run_weights": weights_digest(trained_model(first)),
    }
    assert continued.required_files == [weights(first)]
    other = replace(continued, out=tmp_path / "other")
    shutil.copytree(weights(first).parent, weights(replace(first, out=other.out)).parent)
    uninterrupted = execute_run(silent, other)
    assert without_times(resumed) == without_times(uninterrupted)
    assert weights(continued).read_bytes() == weights(other).read_bytes()
    assert resumed.numbers() != execute_run(silent, replace(run, out=tmp_path / "scratch")).numbers()


def test_an_override_of_the_epochs_changes_nothing_else_of_the_recipe(run: Run) -> None:
    record = execute_run(silent, overridden(run, "@epochs=2"))
    assert len(record.curve) == 2 * run.benchmark.recipe.epochs
    assert record.definition == run.definition


@pytest.mark.parametrize("settings", ["@teacher=previous@T=1@alpha=0.8@growing", "@teacher=uniform@T=1@alpha=0.1"])
def test_a_stand_in_for_a_teacher_changes_the_numbers_and_needs_no_other_model(
    settings: str, run: Run, finished_record: RunRecord
) -> None:
    record = execute_run(silent, overridden(run, settings))
    assert record.numbers() != finished_record.numbers()
    assert record.overrides == {}


# Epochs for trackers


def test_a_run_writes_its_epochs_as_they_end_and_none_twice(
    run: Run, finished_record: RunRecord, stop_run: Callable[[Run, int], None], save_after_each_batch: None
) -> None:
    live = replace(run, is_live=True)
    stop_run(live, 1)
    [unfinished] = read_live_runs(run.out)
    assert [line["epoch"] for line in unfinished.curve] == [1]
    record = execute_run(silent, live)
    assert record.numbers() == finished_record.numbers()
    [finished] = read_live_runs(run.out)
    assert finished.curve == record.curve
    assert finished.run_id == record.run_id
    names = {field.name for field in fields(finished)} & {field.name for field in fields(record)} - {"format", "commit"}
    assert {name: getattr(finished, name) for name in names} == {name: getattr(record, name) for name in names}
    store = RecordStore(run.out)
    store.create()
    record_outcome(store, live, record)
    assert read_live_runs(run.out) == []


def test_a_run_of_a_search_writes_no_epochs(finished_run: Run, finished_record: RunRecord) -> None:
    assert not live_folder(finished_run.out).exists()


def test_a_failed_run_leaves_no_epochs(run: Run) -> None:
    live, store = replace(run, is_live=True), RecordStore(run.out)
    store.create()
    live_file(run.out, run.id).parent.mkdir()
    live_file(run.out, run.id).touch()
    record_outcome(store, live, RuntimeError("out of memory"))
    assert not live_file(run.out, run.id).exists()


def test_a_run_is_trained_if_its_epochs_cannot_be_written(run: Run, finished_record: RunRecord) -> None:
    run.out.mkdir()
    live_folder(run.out).touch()
    reports: list[Progress] = []
    record = execute_run(reports.append, replace(run, is_live=True))
    assert record.numbers() == finished_record.numbers()
    assert len([report for report in reports if "live" in report.warning]) == 1
