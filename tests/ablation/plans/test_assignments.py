"""Test the assignment files, their plans and benchmarks, and the validation of files."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablation.plans.assignments import FOLDER, assignment_names, load_study
from ablation.plans.choices import AssignmentScale
from ablation.plans.pretrained import with_pretrained
from arch.errors import InputError
from benchmarks.budget.builders import spec_builder
from benchmarks.budget.cost import count_on_meta
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS, load_benchmark
from benchmarks.definition.toml_file import write_benchmark
from benchmarks.records.weights_file import digest_of

IDS: dict[
    tuple[str, AssignmentScale], str
] = {  # on a CPU, with images whose fingerprint is "images"; a changed id separates new runs from recorded ones
    ("data_size", "cpu"): "5b95454e07f3",
    ("data_size", "full"): "5b95454e07f3",
    ("distillation", "cpu"): "78e2294adcda",
    ("distillation", "full"): "60536d772f2b",
    ("fine_tuning", "cpu"): "488eb927c89b",
    ("fine_tuning", "full"): "787d420a88e4",
    ("proposal", "cpu"): "78e2294adcda",
    ("proposal", "full"): "60536d772f2b",
    ("sequential_ablation", "cpu"): "78e2294adcda",
    ("sequential_ablation", "full"): "60536d772f2b",
    ("small_residual_net", "cpu"): "b5a49c9a6162",
    ("small_residual_net", "full"): "60536d772f2b",
    ("wide_or_deep", "cpu"): "769530adfc8a",
    ("wide_or_deep", "full"): "0404cb1dc1a4",
}
STUDIES = sorted(IDS)
FILE = """
title = "Tiny"
description = "A tiny study."

[full]
plan = "baseline+se"
benchmark = "digits"
seeds = 2
cost = "seconds"
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], None]:
    """Return a function that loads an assignment file with this content, and its plan, benchmark and marks."""

    def load_content(content: str) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(content)
        load_study(str(file), "full").mark_rows()

    return load_content


def test_every_assignment_has_stable_ids() -> None:
    assert sorted({name for name, _ in IDS}) == assignment_names()
    ids = {
        (name, scale): identify(load_study(name, scale).benchmark.definition("images", "cpu"))
        for name, scale in STUDIES
    }
    assert ids == IDS


def test_the_sequential_ablation_shares_the_records_of_a_built_in_benchmark() -> None:
    small = identify(BENCHMARKS["cifar100_small"].definition("images", "cpu"))
    assert IDS["sequential_ablation", "cpu"] == small


def test_scales_share_an_id_only_if_nothing_is_reduced() -> None:
    for name in assignment_names():
        reduced, full = load_study(name, "cpu"), load_study(name, "full")
        is_reduced = reduced.definition is not reduced.assignment.full
        assert (IDS[name, "cpu"] != IDS[name, "full"]) == is_reduced
        assert bool(reduced.definition.reduction) == is_reduced
        assert not full.definition.reduction


@pytest.mark.parametrize(("name", "scale"), STUDIES)
def test_marks_name_rows_of_the_plan(name: str, scale: AssignmentScale) -> None:
    study = load_study(name, scale)
    marks = study.mark_rows()
    assert len(marks) == len(study.definition.marks) >= 1
    assert all(minus is None or minus != index for _, index, minus in marks)


@pytest.mark.parametrize(("name", "scale"), STUDIES)
def test_benchmarks_of_assignments_can_be_written_to_a_file(name: str, scale: AssignmentScale, tmp_path: Path) -> None:
    benchmark = load_study(name, scale).benchmark
    if benchmark.name in BENCHMARKS:
        return
    file = tmp_path / "benchmark.toml"
    file.write_text(write_benchmark(benchmark, benchmark.name))
    assert load_benchmark(file) == benchmark


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), STUDIES)
def test_rows_are_built_and_within_the_parameter_budget(name: str, scale: AssignmentScale) -> None:
    study = load_study(name, scale)
    for spec in {str(row.config.spec) for row in study.plan().rows}:
        cost = count_on_meta(spec_builder(spec, study.benchmark), study.benchmark.data.input_shape)
        assert 0 < cost.params <= study.benchmark.budget.max_params


def test_the_data_size_study_has_the_keys_and_the_id_of_recorded_runs() -> None:
    study = load_study("data_size", "cpu")
    rows = [row for row in study.plan().rows if row.kind != "carried"]
    assert [row.key for row in rows] == [
        "715c352a8c96f1da-963c8fd6",
        "715c352a8c96f1da-b651b995",
        "715c352a8c96f1da",
        "222b2e9c858c77bf-963c8fd6",
        "222b2e9c858c77bf-b651b995",
        "222b2e9c858c77bf",
    ]
    assert identify(study.benchmark.definition("1ac88390d9d8be35", "cpu")) == "52f9d9013ea7"


@pytest.mark.parametrize("scale", get_args(AssignmentScale))
def test_the_goal_of_the_distillation_study_compares_teacher_and_student(scale: AssignmentScale) -> None:
    study = load_study("distillation", scale)
    rows = study.plan().rows
    [(mark, teacher, student)] = [line for line in study.mark_rows() if line[0].kind == "goal"]
    assert student is not None
    assert rows[2].overrides.teacher == rows[teacher].config
    assert rows[2].config.spec == rows[student].config.spec
    assert mark.value == 3


def test_pretrained_weights_can_be_a_file(tmp_path: Path) -> None:
    weights = tmp_path / "lite0 (1).safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, weights)
    study = load_study("fine_tuning", "cpu")
    scratch, tuned = with_pretrained(study.plan(str(weights)), tmp_path / "out").rows
    assert scratch.overrides.initial_weights == ""
    assert tuned.overrides.initial_weights == digest_of(weights)
    with pytest.raises(InputError, match="data_size has no pretrained weights"):
        load_study("data_size", "cpu").plan(str(weights))


def test_benchmarks_may_be_part_of_the_file(tmp_path: Path) -> None:
    inline = '[full.benchmark]\nname = "mine"\nbaseline = "resnet8"\ndata = {source = "digits", num_classes = 10}\n'
    file = tmp_path / "mine.toml"
    file.write_text(FILE.replace('benchmark = "digits"\n', "") + inline)
    study = load_study(str(file), "cpu")
    assert (study.name, study.benchmark.name, study.benchmark.data.source) == ("mine", "mine", "digits")
    assert [row.spec for row in study.plan().rows] == ["resnet8", "resnet8+se"]


def test_benchmark_files_are_found_beside_the_assignment_file(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    benchmark = 'name = "shared"\nbaseline = "resnet8"\n[data]\nsource = "digits"\nnum_classes = 10\n'
    (tmp_path / "own" / "shared.toml").write_text(benchmark)
    file = tmp_path / "mine.toml"
    file.write_text(FILE.replace('"digits"', '"own/shared.toml"'))
    study = load_study(str(file), "cpu")
    assert study.benchmark == load_benchmark(tmp_path / "own" / "shared.toml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("title = ", ["mine.toml", "TOML"]),
        (FILE.replace("seeds", "seed"), ["seed", "seeds", "[full]"]),
        (FILE.replace("seeds = 2", "seeds = 0"), ["full.seeds"]),
        (FILE.replace("seeds = 2", 'seeds = "2"'), ["full.seeds"]),
        (FILE.replace('"digits"', '"digit"'), ["digit", "benchmark"]),
        (FILE.replace('"digits"', '"missing.toml"'), ["benchmark", "missing.toml"]),
        (FILE.replace("+se", "+sse"), ["sse"]),
        (FILE + "[full.benchmark.x]\ny = 1\n", ["TOML"]),
        (FILE.replace('benchmark = "digits"', 'benchmark = {name = "mine"}'), ["mine.toml", "baseline", "data"]),
        (FILE + '[[full.marks]]\nrow = "+eca"\nvalue = 1\nkind = "goal"\nsource = "s"\n', ["+eca", "mark"]),
        (FILE + '[[full.marks]]\nrow = "+se"\nvalue = 101\nkind = "goal"\nsource = "s"\n', ["value", "100"]),
        (FILE + '[[full.marks]]\nrow = "+se"\nvalue = 1\nkind = "best"\nsource = "s"\n', ["kind", "reference"]),
        (FILE + '[[full.marks]]\nrow = "+se"\nvalue = 1\nkind = "goal"\nfrom = "s"\n', ["from", "source", "marks.0"]),
    ],
)
def test_invalid_files_are_rejected(content: str, words: list[str], load: Callable[[str], None]) -> None:
    with pytest.raises(InputError) as error:
        load(content)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_the_example_of_the_documentation_is_valid(load: Callable[[str], None]) -> None:
    page = (FOLDER.parents[1] / "docs" / "assignments.md").read_text(encoding="utf-8")
    load(page.partition("```toml\n")[2].partition("```")[0])
    assert all(f"`{name}`" in page for name in assignment_names())


def test_unknown_names_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data_size"):
        load_study("data_sizes", "cpu")
    with pytest.raises(InputError, match="cannot read"):
        load_study(str(tmp_path / "missing.toml"), "cpu")
    assert load_study("data_size", "cpu").path.parent == FOLDER
