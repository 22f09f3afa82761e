import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig
from benchmarks.definition.recipe import Recipe
from benchmarks.records.selection import differing_fields, recorded_benchmark, records_of_one_benchmark
from benchmarks.records.store import RunRecord

RECORD = RunRecord(
    spec="resnet8+se",
    key="0123",
    seed=0,
    benchmark="digits",
    benchmark_id="abcd",
    definition={"protocol": 1, "data": {"fingerprint": "f0"}, "recipe": {"lr": 0.1}, "device": "cpu"},
    baseline="resnet8",
    plan="baseline+se",
    params=79_682,
    macs=776_320,
    predicted_hours=0.01,
    hours=0.02,
    images_per_second=1234.5,
    images_seen=128,
    top1=81.25,
    top5=99.0,
    per_class={"null": 80.0, "eins": 82.5},
    curve=[{"epoch": 1, "loss": 0.1 + 0.2}],
    device="cpu (2 threads)",
    versions={"torch": "2.10"},
    commit="",
    finished="2025-01-01T00:00:00+00:00",
)


def with_lr(lr: float, benchmark_id: str) -> RunRecord:
    return replace(RECORD, definition={**RECORD.definition, "recipe": {"lr": lr}}, benchmark_id=benchmark_id)


def test_records_of_other_benchmarks_are_left_out() -> None:
    others = [replace(RECORD, benchmark="cifar10", benchmark_id="ef01"), replace(RECORD, seed=1)]
    assert records_of_one_benchmark([RECORD, *others], "digits") == [RECORD, replace(RECORD, seed=1)]


def test_several_ids_are_reported_with_the_differing_fields() -> None:
    records = [with_lr(0.1, "first"), with_lr(0.2, "second")]
    with pytest.raises(InputError, match=r"several ids \(first, second\).* differ in recipe\.lr \(0.1, 0.2\): .*--id"):
        records_of_one_benchmark(records, "digits")


def test_id_selects_among_several() -> None:
    records = [with_lr(0.1, "first"), with_lr(0.2, "second")]
    assert records_of_one_benchmark(records, "digits", "second") == records[1:]


def test_id_alone_selects_a_benchmark_by_its_first_characters() -> None:
    records = [with_lr(0.1, "41a6f42a707c"), replace(with_lr(0.2, "41a6f4ffffff"), benchmark="other")]
    assert records_of_one_benchmark(records, None, "41a6f42a707c") == records[:1]
    assert records_of_one_benchmark(records, None, "41a6f4f") == records[1:]
    with pytest.raises(InputError, match="several benchmark ids start with 41a6f4: 41a6f42a707c, 41a6f4ffffff"):
        records_of_one_benchmark(records, None, "41a6f4")
    assert records_of_one_benchmark(records[:1], None, "41a") == records[:1]
    with pytest.raises(InputError, match=r"benchmark id ffffff; .* 41a6f42a707c"):
        records_of_one_benchmark(records[:1], None, "ffffff")


ON_GPU = replace(RECORD, definition={**RECORD.definition, "device": "cuda"}, benchmark_id="gpu")
OTHER_IMAGES = replace(RECORD, definition={**RECORD.definition, "data": {"fingerprint": "f1"}}, benchmark_id="other")


@pytest.mark.parametrize(("device", "expected"), [("cpu", RECORD), ("cuda", ON_GPU), ("cuda:1", ON_GPU)])
def test_device_type_selects_among_several_ids(device: str, expected: RunRecord) -> None:
    assert records_of_one_benchmark([RECORD, ON_GPU], "digits", device=device) == [expected]


def test_fingerprint_selects_among_several_ids() -> None:
    assert records_of_one_benchmark([RECORD, OTHER_IMAGES], "digits", fingerprint="f1") == [OTHER_IMAGES]


def test_ambiguous_selection_is_rejected() -> None:
    with pytest.raises(InputError, match=r"several ids \(abcd, other\).* differ in data\.fingerprint"):
        records_of_one_benchmark([RECORD, ON_GPU, OTHER_IMAGES], "digits", device="cpu")


@pytest.mark.parametrize(
    ("name", "benchmark_id", "fingerprint", "device"),
    [
        ("cifar10", None, None, None),
        ("digits", "ef01", None, None),
        ("cifar10", "abcd", None, None),
        ("digits", None, "f2", None),
        ("digits", None, None, "cuda"),
    ],
)
def test_empty_selection_lists_the_recorded_benchmarks(
    name: str, benchmark_id: str | None, fingerprint: str | None, device: str | None
) -> None:
    with pytest.raises(InputError, match=rf"no matching records of {name};.* digits abcd \(cpu\)$"):
        records_of_one_benchmark([RECORD], name, benchmark_id, fingerprint, device)


@pytest.mark.parametrize(
    ("definitions", "expected"),
    [
        ([{"a": 1}, {"a": 1}], []),
        ([{"a": 1, "b": 1}, {"a": 2, "b": 1}], ["a (1, 2)"]),
        ([{"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}], ["a.c (2, 3)"]),
        ([{"a": 1}, {"a": 1, "b": 2}], ["b (None, 2)"]),
        ([{"a": {"b": 1}}, {"a": 1}], ["a ({'b': 1}, 1)"]),
        ([{"a": 1}, {"a": 1}, {"a": 2}], ["a (1, 1, 2)"]),
        ([{"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}], ["a.b.c (1, 2)"]),
    ],
)
def test_differing_fields_are_named_with_their_values(definitions: list[dict[str, Any]], expected: list[str]) -> None:
    assert differing_fields(definitions) == expected


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.2),
        Recipe(optimizer="adamw", optimizer_options={"betas": (0.9, 0.99)}, mean=(0.1, 0.2, 0.3), ema_decay=0.9),
        Recipe(schedule="multistep", milestones=(60.0, 120.0)),
    ],
)
def test_recorded_benchmark_is_restored_from_its_definition(recipe: Recipe) -> None:
    benchmark = Benchmark("digits", DatasetConfig("digits", 10, image_size=8), "resnet8", recipe)
    record = replace(RECORD, definition=json.loads(json.dumps(benchmark.definition("f0", "cpu"))))
    assert recorded_benchmark(record) == benchmark


def test_recorded_budget_is_restored() -> None:
    benchmark = Benchmark("digits", DatasetConfig("digits", 10), "resnet8", budget=Budget(1_000_000, 0.5))
    record = replace(RECORD, definition=benchmark.definition("f0", "cpu"), budget=asdict(benchmark.budget))
    assert recorded_benchmark(record) == benchmark


def test_incomplete_definition_is_rejected() -> None:
    with pytest.raises(InputError, match=r"record of resnet8\+se does not define its benchmark digits"):
        recorded_benchmark(replace(RECORD, definition={"recipe": {}}))
