import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.analysis.study_progress import study_progress
from ablation.plans.assignments import AssignedStudy, load_study
from ablation.report.assignment_page import AssignmentPage, write_assignment_page
from benchmarks.records.store import FailedRun, RunRecord

Make = Callable[..., RunRecord]
MakeRecorded = Callable[..., RecordedPlan]
HOSTILE = [
    "<script>alert(1)</script>",
    "a|b `c` *d* _e_ $f$",
    "[link](javascript:alert(1))",
    r"\input{/etc/passwd}",
    "=cmd()\n# heading",
    "\u202ereversed",
    "x" * 600,
]


@pytest.fixture
def study(tmp_path: Path) -> AssignedStudy:
    """Return an assignment on digits with a reference and a goal."""
    file = tmp_path / "tiny.toml"
    file.write_text(
        'title = "Tiny <b>"\ndescription = "A tiny study."\n[full]\nplan = "baseline+se"\nbenchmark = "digits"\n'
        'seeds = 3\ncost = "seconds"\n'
        '[[full.marks]]\nrow = "resnet8"\nvalue = 49.5\nkind = "reference"\nsource = "a | paper"\n'
        '[[full.marks]]\nrow = "resnet8+se"\nvalue = 60\nkind = "goal"\nsource = "course"\n'
    )
    return load_study(str(file), "full")


@pytest.fixture
def recorded(make_record: Make, make_recorded: MakeRecorded, tmp_path: Path) -> RecordedPlan:
    """Return three runs of the first row and one of the second; seed 2 of the second row has failed."""
    records = [make_record(seed=seed, top1=50.0 + seed, hours=1.0) for seed in range(3)]
    records.append(make_record("baseline+se", 0, 61.25, hours=1.5))
    se = make_recorded("baseline+se").rows[1]
    failed = FailedRun(se.spec, se.key, 2, records[0].benchmark_id, "baseline+se", "out of memory", "", "2026-01-01")
    return make_recorded("baseline+se", records, failed_runs=[failed], out=tmp_path, seeds=3)


def page_of(study: AssignedStudy, recorded: RecordedPlan) -> AssignmentPage:
    command = ["ablate", "reproduce", "my tiny.toml"]
    return AssignmentPage(study, "baseline+se@init=my.safetensors", recorded, study_progress(recorded, 3), 3, command)


def cells(markdown: str, title: str) -> list[list[str]]:
    """Return the cells of the lines of the first table of a section, without its header."""
    section = markdown.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_page_has_the_numbers_of_the_records(study: AssignedStudy, recorded: RecordedPlan) -> None:
    table, files = write_assignment_page(page_of(study, recorded))
    assert table.frame["top1_mean"].tolist() == [51.0, 61.25]
    assert [file.name for file in files] == ["README.md", "curves.png", "losses.png"]
    assert {file.parent for file in files} == {recorded.out / f"tiny_full_{recorded.benchmark_id}"}
    text = files[0].read_text()
    options = f"--seeds 3 --device cpu --out {recorded.out}\n"
    assert f"    ablate reproduce 'my tiny.toml' {options}" in text
    assert f"    ablate run baseline+se@init=my.safetensors --benchmark digits {options}" in text
    conditions = dict(cells(text, "Conditions"))
    assert "4 runs recorded (4.5 h), 2 missing (3.0 h left" in conditions["runs"]
    assert "1-2" in conditions["missing runs"]
    assert "failed: +se" in conditions["missing runs"]
    assert recorded.benchmark_id in conditions["benchmark"]
    assert conditions["seeds"].startswith("0-2 (n = 3")
    assert conditions["versions"] == "torch 2.10.0"
    assert "51.00 ± 1.00" in text
    assert "out of memory" in text
    reference, goal = cells(text, "Expected and measured results")
    assert reference[2:] == ["49.5", "51.00 ± 1.00 (n = 3)", "+1.50 points", "reference", r"a \| paper"]
    assert goal[2:] == ["≥ 60", "61.25 (n = 1)", "reached", "goal", "course"]
    runs = cells(text, "Runs")
    assert [(line[1], line[2], line[3], line[5]) for line in runs] == [
        (str(run.seed), run.run_id, f"{run.top1:.2f}", f"{run.curve[-1]['train_top1']:.2f}") for run in recorded.records
    ]
    assert all(f"]({file.name})" in text for file in files[1:])
    assert "<b>" not in text.replace(r"\<b>", "")


def test_a_page_never_mixes_benchmark_ids(study: AssignedStudy, recorded: RecordedPlan, make_record: Make) -> None:
    other = make_record("baseline+se", 1, 70.0, benchmark_id="ba9876543210")
    with pytest.raises(ValueError, match="benchmark"):
        write_assignment_page(page_of(study, replace(recorded, records=[*recorded.records, other])))
    first, second = (page_of(study, replace(recorded, benchmark_id=identifier)) for identifier in ("a" * 12, "b" * 12))
    assert first.folder != second.folder


def test_a_page_without_runs_has_no_figures(study: AssignedStudy, recorded: RecordedPlan) -> None:
    _, files = write_assignment_page(page_of(study, replace(recorded, records=[], failed_runs=[])))
    assert [file.name for file in files] == ["README.md"]
    text = files[0].read_text()
    assert [line[4] for line in cells(text, "Expected and measured results")] == ["no runs", "no runs"]
    assert "no result" in text


@pytest.mark.parametrize("label", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_labels_change_neither_markup_nor_layout(
    label: str, study: AssignedStudy, recorded: RecordedPlan
) -> None:
    from markdown_it import MarkdownIt

    first, second = recorded.plan.rows
    renamed = replace(recorded, plan=replace(recorded.plan, rows=(first, replace(second, label=label))))
    _, files = write_assignment_page(page_of(study, renamed))
    text = files[0].read_text()
    assert all(len(line) == 10 for line in cells(text, "Runs"))
    html = MarkdownIt("gfm-like", {"linkify": False}).enable("table").render(text)
    assert html.count("<h2>") == 10
    assert html.count("<h1>") == 1
    assert not re.search(r"<(?!/?(?:h1|h2|p|pre|code|table|thead|tbody|tr|th|td|ul|li|img|a)\b)", html)
    assert "javascript:" not in "".join(re.findall(r'href="[^"]*"', html))
    shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(label.split()))
    from html import unescape

    assert f"<td>{shown}</td>" in unescape(html)


def test_hostile_class_names_are_escaped(study: AssignedStudy, recorded: RecordedPlan) -> None:
    accuracies = {"a|b *c* <d>": 50.0, "cat": 60.0}
    records = [replace(record, per_class=accuracies) for record in recorded.records]
    _, files = write_assignment_page(page_of(study, replace(recorded, records=records)))
    section = files[0].read_text().partition("## Accuracy per class\n")[2].partition("\n## ")[0]
    header = next(line for line in section.splitlines() if line.startswith("|"))
    assert re.split(r" *(?<!\\)\| *", header)[1:-1] == ["row", r"a\|b \*c\* \<d>", "cat"]


def test_benchmarks_of_the_file_are_written_beside_the_page(recorded: RecordedPlan) -> None:
    study = load_study("small_residual_net", "cpu")
    page = page_of(study, replace(recorded, benchmark=study.benchmark, plan=study.plan(), records=[], failed_runs=[]))
    _, files = write_assignment_page(page)
    assert [file.name for file in files] == ["README.md", "benchmark.toml"]
    assert page.commands[1][3:5] == ["--benchmark", str(files[1])]


def test_hours_are_those_of_one_run_and_of_all_runs(study: AssignedStudy, recorded: RecordedPlan) -> None:
    page = page_of(study, recorded)
    keys = [row.key for row in recorded.rows]
    progress = replace(page.progress, budget_hours=dict(zip(keys, (0.5, 0.25), strict=True)))
    text = write_assignment_page(replace(page, progress=progress))[1][0].read_text()
    assert cells(text, "Hours") == [
        ["baseline (resnet8)", "3", "0", "1.0 h", "30.0 min"],
        ["+se", "1", "2", "1.5 h", "15.0 min"],
        ["all runs", "4", "2", "7.5 h", "2.2 h"],
    ]


def test_hours_on_the_budget_device_need_a_prediction_for_every_row(
    study: AssignedStudy, recorded: RecordedPlan
) -> None:
    page = page_of(study, recorded)
    progress = replace(page.progress, budget_hours={recorded.rows[0].key: 0.5})
    text = write_assignment_page(replace(page, progress=progress))[1][0].read_text()
    assert [line[4] for line in cells(text, "Hours")] == ["30.0 min", "", ""]
