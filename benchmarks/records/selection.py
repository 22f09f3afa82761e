"""Select the records of one benchmark."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from arch.errors import InputError
from benchmarks.definition.benchmark import Benchmark, Budget, DatasetConfig, identify
from benchmarks.definition.recipe import Recipe
from benchmarks.definition.validation import strict_adapter
from benchmarks.records.live_runs import LiveRun
from benchmarks.records.store import RunRecord


def recorded_benchmark(record: RunRecord | LiveRun) -> Benchmark:
    """Return the benchmark that a record was made with, or that a run in training has.

    Older records do not contain the budget: it has its defaults.

    Raises:
        InputError: If the record does not contain a complete definition of its benchmark.
    """
    try:
        data = {name: value for name, value in record.definition["data"].items() if name != "fingerprint"}
        recipe = strict_adapter(Recipe).validate_json(json.dumps(record.definition["recipe"]))
        return Benchmark(record.benchmark, DatasetConfig(**data), record.baseline, recipe, Budget(**record.budget))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the record of {record.spec} does not define its benchmark {record.benchmark}") from error


def require_same_id(record: RunRecord, definition: dict[str, Any]) -> None:
    """Raise InputError, naming the fields that differ, unless a definition has the benchmark id of a record."""
    if identify(definition) != record.benchmark_id:
        fields = ", ".join(differing_fields([record.definition, definition]))
        raise InputError(f"the benchmark id would differ from the recorded {record.benchmark_id}: {fields}")


def records_of_one_benchmark(
    records: Sequence[RunRecord],
    name: str | None,
    benchmark_id: str | None = None,
    fingerprint: str | None = None,
    device: str | None = None,
) -> list[RunRecord]:
    """Return the records of one benchmark id.

    Args:
        records: The records to select from.
        name: The name of the benchmark. None accepts every name; the same holds for the other arguments.
        benchmark_id: Select this id; or its first characters, if no other id starts with them.
        fingerprint: Select the ids of these images.
        device: Select the ids of this type of device.

    Raises:
        InputError: If no record remains, or records of several ids; the message then names the fields that differ.
    """
    device_type = device and device.partition(":")[0]
    benchmark_id = benchmark_id and complete_id(benchmark_id, {record.benchmark_id for record in records})
    selected = [
        record
        for record in records
        if name in (None, record.benchmark)
        and benchmark_id in (None, record.benchmark_id)
        and fingerprint in (None, record.definition.get("data", {}).get("fingerprint"))
        and device_type in (None, record.definition.get("device"))
    ]
    definitions = {record.benchmark_id: record.definition for record in selected}
    if not selected:
        available = {f"{r.benchmark} {r.benchmark_id} ({r.definition.get('device')})" for r in records}
        subject = name or f"benchmark id {benchmark_id}"
        raise InputError(
            f"no matching records of {subject}; the recorded benchmarks are {', '.join(sorted(available))}"
        )
    if len(definitions) > 1:
        fields = ", ".join(differing_fields(list(definitions.values())))
        ids = ", ".join(definitions)
        raise InputError(
            f"{name or 'the folder'} has records of several ids ({ids}), which differ in {fields}: select one with --id"
        )
    return selected


def complete_id(text: str, benchmark_ids: Collection[str]) -> str:
    """Return the benchmark id that starts with a text; the text itself if there is none.

    Raises:
        InputError: If several ids start with the text.
    """
    matches = [benchmark_id for benchmark_id in sorted(benchmark_ids) if benchmark_id.startswith(text)]
    if text in matches or not matches:
        return text
    if len(matches) > 1:
        raise InputError(f"several benchmark ids start with {text}: {', '.join(matches)}")
    return matches[0]


def differing_fields(definitions: Sequence[dict[str, Any]], prefix: str = "") -> list[str]:
    """Return the fields in which benchmark definitions differ, such as `recipe.epochs (40, 15)`.

    Args:
        definitions: The definitions to compare.
        prefix: The path of the definitions within larger ones, with a "." at the end.
    """
    differences = []
    for name in sorted({name for definition in definitions for name in definition}):
        values = [definition.get(name) for definition in definitions]
        if all(isinstance(value, dict) for value in values):
            differences += differing_fields([value for value in values if isinstance(value, dict)], f"{prefix}{name}.")
        elif any(value != values[0] for value in values):
            differences.append(f"{prefix}{name} ({', '.join(map(str, values))})")
    return differences
