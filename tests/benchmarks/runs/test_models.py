from dataclasses import replace

import pytest
import torch
from torch import nn

from arch.errors import InputError
from arch.models import build
from arch.spec import parse
from benchmarks.definition.config_parser import read_run_config
from benchmarks.execution.progress import silent
from benchmarks.records.paths import initial_weights_file
from benchmarks.records.weights_file import digest_of
from benchmarks.runs.dispatch import execute_run
from benchmarks.runs.models import check_models, initial_model, load_distiller, load_initial_model
from benchmarks.runs.run import Run
from benchmarks.training.distillation import weights_digest
from benchmarks.training.tensor_file import read_tensors, write_tensors


def overridden(run: Run, settings: str) -> Run:
    return replace(run, config=read_run_config(f"{run.spec}{settings}"))


def new_model(run: Run, num_classes: int = 10) -> nn.Module:
    return build(parse(run.spec).variant(), num_classes, 1)


def store_initial_weights(run: Run, model: nn.Module, name: str = "") -> str:
    """Write initial weights for a run, and return their name, which defaults to their digest."""
    file = run.out / "initial" / "given"
    write_tensors(file, model.state_dict(), {})
    name = name or digest_of(file)
    file.rename(initial_weights_file(run.out, name))
    return name


def test_frozen_layers_keep_the_initial_weights(run: Run) -> None:
    start = new_model(run, num_classes=7)
    digest = store_initial_weights(run, start)
    tuned = overridden(run, f"@init={digest}@freeze=stem:stages.0")
    record = execute_run(silent, tuned)
    after, before = read_tensors(tuned.output_file("weights"))[0], start.state_dict()
    frozen = [name for name in after if name.startswith(("stem.", "stages.0."))]
    assert frozen
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(after["stages.1.0.conv1.weight"], before["stages.1.0.conv1.weight"])
    assert len(after["head.fc.bias"]) == 10
    assert record.spec.endswith(f"@init={digest}@freeze=stages.0:stem")


def test_a_new_classifier_cannot_be_frozen(run: Run) -> None:
    digest = store_initial_weights(run, new_model(run, num_classes=7))
    tuned = overridden(run, f"@init={digest}@freeze=head")
    with pytest.raises(InputError, match=r"^head: the classifier"):
        initial_model(tuned.config, tuned.benchmark, tuned.out)


def test_weights_with_another_digest_than_their_name_are_rejected(run: Run) -> None:
    store_initial_weights(run, new_model(run), "0123456789abcdef")
    tuned = overridden(run, "@init=0123456789abcdef")
    with pytest.raises(InputError, match=r"0123456789abcdef.safetensors contains different weights"):
        check_models(silent, [tuned.config], tuned.benchmark, tuned.out)


def test_missing_weights_of_a_teacher_are_named(run: Run) -> None:
    student = overridden(run, "@teacher=(resnet8)")
    with pytest.raises(InputError, match=r"the teacher resnet8 \(seed 0\) failed, or .* missing \(.*\.safetensors"):
        load_distiller(student, "cpu")


@pytest.mark.parametrize("header", [{}, {"run_id": "another"}])
def test_weights_of_another_run_are_rejected_as_the_teachers(run: Run, header: dict[str, str]) -> None:
    student = overridden(run, "@teacher=(resnet8)")
    assert student.overrides.teacher is not None
    model = build(parse("resnet8").variant(), 10, 1)
    write_tensors(student.weights_file(student.overrides.teacher), model.state_dict(), header)
    with pytest.raises(InputError, match="contains the weights of a different run"):
        load_distiller(student, "cpu")


def test_a_teacher_with_another_number_of_classes_is_rejected(run: Run) -> None:
    digest = store_initial_weights(run, build(parse("resnet8").variant(), 7, 1))
    student = overridden(run, f"@teacher=(resnet8@init={digest}@epochs=0)")
    with pytest.raises(InputError, match=r"7 classes.* 10"):
        load_distiller(student, "cpu")
    with pytest.raises(InputError, match=r"7 classes.* 10"):
        check_models(silent, [student.config], student.benchmark, student.out)


def store_run_weights(run: Run, model: nn.Module, header: dict[str, str] | None = None) -> None:
    """Write the final weights of the initial run of a run."""
    [config] = run.config.dependencies
    write_tensors(run.weights_file(config), model.state_dict(), header or {"run_id": run.id_for(config)})


def test_missing_or_other_weights_of_an_initial_run_are_named(run: Run) -> None:
    continued = overridden(run, f"@init=({run.spec}@data=1/2)")
    with pytest.raises(InputError, match=r"the initial run resnet8\S*@data=1/2 \(seed 0\) failed, or .* missing"):
        load_initial_model(continued)
    store_run_weights(continued, new_model(run), {"run_id": "another"})
    with pytest.raises(InputError, match="contains the weights of a different run"):
        load_initial_model(continued)
    store_run_weights(continued, new_model(run, num_classes=7))
    with pytest.raises(InputError, match=r"7 classes.* 10"):
        load_initial_model(continued)


def test_weights_of_an_initial_run_are_loaded_with_the_classifier_before_layers_are_frozen(run: Run) -> None:
    continued, start = overridden(run, f"@init=({run.spec})@freeze=stem:head"), new_model(run)
    assert continued.overrides.needs_model_check
    check_models(silent, [continued.config], run.benchmark, run.out)  # before the initial run is trained
    store_run_weights(continued, start)
    model = load_initial_model(continued)
    loaded = model.state_dict()
    assert all(torch.equal(start.state_dict()[name], tensor) for name, tensor in loaded.items())
    assert not model.get_parameter("head.fc.weight").requires_grad
    with pytest.raises(InputError, match="unknown layer 'stm'"):
        check_models(silent, [overridden(run, f"@init=({run.spec})@freeze=stm").config], run.benchmark, run.out)


def test_stages_of_student_and_teacher_are_compared_before_training(run: Run) -> None:
    configs = [overridden(run, f"@teacher={teacher}@method=at").config for teacher in ("(resnet20)", "previous")]
    assert all(config.overrides.needs_model_check for config in configs)
    check_models(silent, configs, run.benchmark, run.out)
    student = overridden(run, "@teacher=(timm/test_vit/32)@method=at")
    with pytest.raises(InputError, match=r"^resnet8\S*@teacher=\(timm/test_vit/32\)@method=at: .* teacher \(none"):
        check_models(silent, [student.config], run.benchmark, run.out)


def test_the_record_contains_the_digest_of_an_untrained_teacher(run: Run) -> None:
    teacher = build(parse("resnet8").variant(), 10, 1)
    digest = store_initial_weights(run, teacher)
    record = execute_run(silent, overridden(run, f"@teacher=(resnet8@init={digest}@epochs=0)"))
    assert record.overrides["teacher_weights"] == weights_digest(teacher)
