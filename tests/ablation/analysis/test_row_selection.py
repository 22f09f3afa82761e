from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.row_selection import RunQuery, all_runs, files_of, select_runs
from ablation.plans.labels import name_rows
from ablation.plans.plan import parse_plan
from arch.errors import InputError
from benchmarks.definition.benchmark import identify
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.paths import checkpoint_folder, run_file
from benchmarks.records.store import FailedRun, RecordStore, RunRecord

DIGITS = BENCHMARKS["digits"]
DEFINITION = DIGITS.definition("images", "cpu")
Make = Callable[..., RunRecord]


@pytest.fixture
def store(tmp_path: Path, make_record: Make) -> RecordStore:
    """Return two seeds of the baseline and of `+se`, and one of a config whose part is unknown."""
    store = RecordStore(tmp_path)
    store.create()
    fields = {"definition": DEFINITION, "benchmark_id": identify(DEFINITION)}
    for spec in ("baseline", "baseline+se"):
        for seed in (1, 0):
            store.append(make_record(spec, seed, **fields))
    store.append(replace(make_record(**fields), spec="resnet8+simam", key="gone", plan="baseline+simam"))
    return store


def found(store: RecordStore, row: str | None, **fields: object) -> Sequence[tuple[str, int]]:
    query = RunQuery(row, **fields)  # type: ignore[arg-type]
    return [(run.spec, run.seed) for run in select_runs(all_runs(store), query, store.out)]


@pytest.mark.parametrize("word", ["resnet8+se", "+se", "baseline+se", "resnet8+eca-eca+se", "SENet"])
def test_row_is_selected_by_its_spec_or_its_label(word: str, store: RecordStore) -> None:
    name_rows(parse_plan("baseline+se", DIGITS), [store.out], ["+se=SENet"])
    assert found(store, word) == [("resnet8+se", 0), ("resnet8+se", 1)]
    assert found(store, word, seed=1) == [("resnet8+se", 1)]


def test_spec_that_cannot_be_read_is_selected_by_its_text(store: RecordStore) -> None:
    assert found(store, "resnet8+simam") == [("resnet8+simam", 0)]


def test_all_rows_of_a_benchmark_id_are_selected(store: RecordStore, make_record: Make) -> None:
    store.append(make_record(benchmark_id="another"))
    assert len(found(store, None, benchmark_id=identify(DEFINITION)[:6])) == 5
    with pytest.raises(InputError, match="--id"):
        found(store, "baseline")


@pytest.mark.parametrize(("word", "fields"), [("+eca", {}), ("+se", {"seed": 7}), ("+se", {"benchmark_id": "none"})])
def test_missing_run_is_refused_with_the_recorded_rows(
    word: str, fields: dict[str, object], store: RecordStore
) -> None:
    with pytest.raises(InputError, match=r"resnet8, resnet8\+se, resnet8\+simam"):
        found(store, word, **fields)


def test_label_of_two_configs_is_refused(store: RecordStore, make_record: Make) -> None:
    fields = {"definition": DEFINITION, "benchmark_id": identify(DEFINITION)}
    store.append(make_record("baseline+cbam+se", plan="baseline+cbam+se", **fields))
    with pytest.raises(InputError, match=r"'\+se' names several rows: resnet8\+se, resnet8\+cbam\+se"):
        found(store, "+se")
    assert len(found(store, "resnet8+se")) == 2


def test_failed_and_unfinished_runs_are_selected_too(store: RecordStore) -> None:
    failed = FailedRun("resnet8+eca", "k", 0, "abcd", "p", "nan", "", "")
    store.append(failed)
    checkpoint_folder(store.out, "k-abcd-seed1").mkdir(parents=True)
    runs = select_runs(all_runs(store), RunQuery("resnet8+eca"), store.out)
    assert runs[0] == failed
    assert [run.seed for run in runs] == [0, 1]  # the unfinished run has no readable spec, but the same key


def test_files_of_a_run_are_its_weights_predictions_and_checkpoints(store: RecordStore) -> None:
    record = store.records()[0]
    assert files_of(record, store.out) == []
    expected = [run_file(store.out, "weights", record.name), checkpoint_folder(store.out, record.run_id)]
    for path in expected:
        path.mkdir(parents=True)
    assert files_of(record, store.out) == expected
    failed = FailedRun(record.spec, record.key, record.seed, record.benchmark_id, "p", "", "", "")
    assert files_of(failed, store.out) == expected
