import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.html import live_page
from ablation.report.html.live_page import LivePage, page_policy
from ablation.report.html.page_data import page_data
from benchmarks.definition.registry import BENCHMARKS
from benchmarks.records.live_runs import LiveCommand, LiveRun, PlannedRun, begin_command, live_file, live_folder
from benchmarks.records.store import RecordStore, RunRecord

HOSTILE = "</script><script>alert(1)</script>"


class Training:
    """The files of a command that trains both rows of a plan with one seed."""

    def __init__(self, out: Path, make_record: Callable[..., RunRecord]) -> None:
        self.out, self.store = out, RecordStore(out)
        definition = BENCHMARKS["digits"].definition("f" * 16, "cpu")
        self.records = [make_record(spec, definition=definition) for spec in ("baseline", "baseline+se")]

    def begin(self, label: str = "") -> None:
        self.store.create()
        runs = tuple(PlannedRun(record.run_id, label or record.spec, 2, 0.01) for record in self.records)
        begin_command(self.out, LiveCommand("baseline+se", self.records[0].benchmark_id, "test", "", 0, runs))

    def train(self, row: int, epochs: int) -> None:
        record = self.records[row]
        names = {field.name for field in fields(LiveRun)} & {field.name for field in fields(record)}
        run = LiveRun(epochs=2, **{name: getattr(record, name) for name in names - {"format", "curve"}})
        lines = [asdict(run), *record.curve[:epochs]]
        live_file(self.out, record.run_id).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def record(self, row: int) -> None:
        self.store.append(self.records[row])
        live_file(self.out, self.records[row].run_id).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute the page at each request, without the chart library, and treat the command as running."""
    monkeypatch.setattr("ablation.report.html.page.chart_library", lambda: "// charts")
    monkeypatch.setattr(live_page, "MIN_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "INTERVAL_FACTOR", 0.0)
    monkeypatch.setattr(live_page, "is_training", lambda out: True)


@pytest.fixture
def training(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Training:
    return Training(tmp_path / "out", make_record)


def read(page: LivePage) -> Any:
    return json.loads(page.data_json())


def curves(data: Any) -> list[tuple[int, list[int]]]:
    """Return the row and the epochs of each curve."""
    return [(row["row"], row["epochs"]) for row in data["curves"]["rows"]]


def test_before_the_first_run_the_page_says_so(training: Training) -> None:
    page = LivePage(training.out)
    for _ in range(2):
        assert b"No results yet" in page.html()
        with pytest.raises(LookupError, match="no records"):
            page.data_json()
        training.begin()


def test_the_page_follows_a_training(training: Training) -> None:
    page = LivePage(training.out)
    training.begin()
    training.train(0, 0)
    data = read(page)
    assert [row["label"] for row in data["rows"]] == ["baseline (resnet8)", "+se"]
    assert curves(data) == []
    assert (data["status"]["done"], data["status"]["total"]) == (0, 2)
    training.train(0, 1)
    data = read(page)
    assert curves(data) == [(0, [1])]
    assert [(run["run"], run["epoch"]) for run in data["status"]["running"]] == [("resnet8", 1)]
    training.record(0)
    training.train(1, 1)
    data = read(page)
    assert curves(data) == [(0, [1, 2]), (1, [1])]
    assert data["status"]["done"] == 1
    training.record(1)
    data = read(page)
    assert curves(data) == [(0, [1, 2]), (1, [1, 2])]
    assert (data["status"]["done"], data["status"]["running"], data["status"]["eta_seconds"]) == (2, [], None)


def test_the_report_is_computed_only_if_records_have_changed(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def counted(recorded: RecordedPlan, table: AblationTable) -> dict[str, Any]:
        calls.append(recorded)
        return page_data(recorded, table)

    monkeypatch.setattr(live_page, "page_data", counted)
    training.begin()
    training.record(0)
    page = LivePage(training.out)
    for epochs in (0, 1, 2):
        training.train(1, epochs)
        read(page)
    assert len(calls) == 1
    training.record(1)
    read(page)
    assert len(calls) == 2


def test_nothing_is_computed_twice_within_a_second(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "MIN_INTERVAL_SECONDS", 3600.0)
    training.begin()
    training.record(0)
    page = LivePage(training.out)
    first = page.data_json()
    training.record(1)
    assert page.data_json() == first


def test_another_plan_can_be_named(training: Training) -> None:
    training.begin()
    training.record(0)
    training.record(1)
    assert [row["spec"] for row in read(LivePage(training.out, "baseline"))["rows"]] == ["resnet8"]


def test_a_killed_command_has_no_running_runs(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "is_training", lambda out: False)
    training.begin()
    training.train(0, 1)
    data = read(LivePage(training.out))
    assert data["status"]["running"] == []
    assert curves(data) == [(0, [1])]


def test_a_folder_without_live_files_shows_its_records(training: Training) -> None:
    training.store.create()
    training.store.append(training.records[0])
    data = read(LivePage(training.out))
    assert "status" not in data
    assert curves(data) == [(0, [1, 2])]


def test_hostile_names_and_files_are_only_shown(training: Training) -> None:
    training.records = [replace(record, commit=HOSTILE) for record in training.records]
    training.begin(HOSTILE)
    (live_folder(training.out) / "x.jsonl").write_text("{}\n" + HOSTILE)
    training.train(0, 1)
    page = LivePage(training.out)
    assert HOSTILE in read(page)["status"]["running"][0]["run"]
    assert HOSTILE.encode() not in page.html()
    training.records = [replace(record, plan=HOSTILE) for record in training.records]
    training.train(0, 1)
    for waiting in (LivePage(training.out), LivePage(training.out / HOSTILE.replace("/", ""))):
        assert b"alert(1)" in waiting.html()
        assert b"<script>" not in waiting.html()


def test_the_policy_allows_no_other_scripts_and_no_frames() -> None:
    policy = page_policy()
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self'" in policy
    script_sources = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in script_sources
