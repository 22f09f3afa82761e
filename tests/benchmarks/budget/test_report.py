import re
from dataclasses import replace

import pytest

from benchmarks.budget.performance import Inference, Latency, PeakThroughput, TrainingEnergy, Utilization
from benchmarks.budget.report import MAX_DEAD_PARAMS_IN_REPORT, rows, to_markdown
from benchmarks.budget.verdict import ModelCost, PredictedHours, Speed, StageCost, Throughput, Verdict
from benchmarks.definition.benchmark import Budget

BARE = Verdict("net.pt (weights)", "digits", Budget(200_000, 0.25), 8, 64, ModelCost(1234, 1000))
COST = ModelCost(
    params=77_754,
    trainable_params=77_000,
    reached_params=76_000,
    dead_params=("idle.weight", "idle.bias"),
    hidden_params=110,
    macs_fvcore=800_000,
    macs_torch=400_000,
    activations=12_345,
    training_memory=300 * 2**20,
    stages=(StageCost("layer1", 10, 600_000), StageCost("head.fc", 5, 4_000)),
    output_shape=(1, 10),
)
SPEED = Throughput(Speed(1234.4, 1100.0, 1300.0), Speed(5000.0, 4000.0, 6000.0), 64, 2**31)
FULL = replace(
    BARE,
    cost=COST,
    throughput=SPEED,
    hours=PredictedHours(0.01, 0.005, 0.02),
    device="cpu (2 threads)",
    versions={"torch": "2.10", "timm": "1.0"},
    sandbox="bubblewrap",
    notes=("first", "second"),
    advice="+width=0.5 would fit the budget (900 params)",
)


def text(verdict: Verdict, label: str) -> str:
    (content,) = [content for name, content in rows(verdict) if name == label]
    return content


def test_full_verdict_has_all_rows_in_order() -> None:
    assert rows(FULL) == [
        ("model", "net.pt (weights)"),
        (
            "parameters",
            "77,754 (limit 200,000; 77,000 trainable, 76,000 reached by a backward pass, 110 not registered)",
        ),
        ("dead parameters", "no backward pass reaches idle.weight, idle.bias"),
        ("MACs", "800,000 at 8 px (fvcore 800,000, torch 400,000)"),
        ("FLOPs", "1,600,000 (2 per MAC)"),
        ("costliest", "layer1 75% of MACs"),
        ("activations", "12,345 for one image"),
        ("training memory", "2.0 GiB peak for a batch of 64"),
        ("training", "1,234 images/s (1,100 to 1,300), batch 64, eager, cpu (2 threads)"),
        ("predicted", "36 s of training (18 s to 1.2 min; limit 15.0 min) on cpu (2 threads)"),
        ("note", "first"),
        ("note", "second"),
        ("advice", "+width=0.5 would fit the budget (900 params)"),
        ("sandbox", "bubblewrap"),
        ("versions", "torch 2.10, timm 1.0"),
        ("verdict", "within budget"),
    ]


def test_minimal_verdict_has_few_rows() -> None:
    assert rows(BARE) == [
        ("model", "net.pt (weights)"),
        ("parameters", "1,234 (limit 200,000; 1,000 trainable)"),
        ("predicted", "no hours, because timing was skipped"),
        ("verdict", "within budget"),
    ]


@pytest.mark.parametrize(
    ("verdict", "label"),
    [
        (replace(FULL, cost=replace(COST, dead_params=())), "dead parameters"),
        (replace(FULL, cost=replace(COST, macs_fvcore=None, macs_torch=None)), "MACs"),
        (replace(FULL, cost=replace(COST, macs_fvcore=None, macs_torch=None)), "FLOPs"),
        (replace(FULL, cost=replace(COST, stages=())), "costliest"),
        (replace(FULL, cost=replace(COST, activations=None)), "activations"),
        (replace(FULL, throughput=None, cost=replace(COST, training_memory=None)), "training memory"),
        (replace(FULL, throughput=None), "training"),
        (replace(FULL, hours=None, unjudged="no weights"), "predicted"),
        (replace(FULL, notes=()), "note"),
        (replace(FULL, advice=""), "advice"),
        (replace(FULL, sandbox=""), "sandbox"),
        (replace(FULL, versions={}), "versions"),
    ],
)
def test_unknown_value_has_no_row(verdict: Verdict, label: str) -> None:
    assert label in [name for name, _ in rows(FULL)]
    assert label not in [name for name, _ in rows(verdict)]


def test_only_the_known_count_is_named() -> None:
    one = replace(FULL, cost=replace(COST, macs_fvcore=None))
    assert text(one, "MACs") == "400,000 at 8 px (torch 400,000)"


@pytest.mark.parametrize("throughput", [None, replace(SPEED, peak_memory=None)])
def test_unmeasured_memory_is_estimated(throughput: Throughput | None) -> None:
    verdict = replace(FULL, throughput=throughput)
    assert text(verdict, "training memory") == "about 300 MiB for a batch of 64, in float32"


def test_number_of_named_dead_parameters_is_limited() -> None:
    names = tuple(f"layer{number}.weight" for number in range(1000))
    named = replace(FULL, cost=replace(COST, dead_params=names))
    listed = ", ".join(names[:MAX_DEAD_PARAMS_IN_REPORT])
    assert text(named, "dead parameters").endswith(f"{listed} and {1000 - MAX_DEAD_PARAMS_IN_REPORT} more")
    exactly = replace(FULL, cost=replace(COST, dead_params=names[:MAX_DEAD_PARAMS_IN_REPORT]))
    assert text(exactly, "dead parameters").endswith(names[MAX_DEAD_PARAMS_IN_REPORT - 1])


@pytest.mark.parametrize(
    ("verdict", "mark", "conclusion"),
    [
        (FULL, "✅", "within budget"),
        (replace(FULL, unjudged="it returns (1, 7)"), "⚠️", "not checked: it returns (1, 7)"),
        (replace(FULL, problems=("a > b", "c > d")), "❌", "OVER: a > b; c > d"),
        (replace(FULL, problems=("a > b",), unjudged="it returns (1, 7)"), "❌", "OVER: a > b"),
    ],
)
def test_markdown_is_a_table_under_a_heading(verdict: Verdict, mark: str, conclusion: str) -> None:
    heading, gap, header, rule, *table = to_markdown(verdict).splitlines()
    assert (heading, gap) == (f"### {mark} budget-check, benchmark `digits`", "")
    assert (header, rule) == ("| | |", "|:--|:--|")
    assert table[0] == "| model | `net.pt (weights)` |"
    assert table[-1] == f"| verdict | `{conclusion}` |"
    assert len(table) == len(rows(verdict))


def test_markdown_ends_with_a_newline() -> None:
    assert to_markdown(FULL).endswith(" |\n")


HOSTILE = [
    "a|b",
    "|||",
    "`a`",
    "``",
    "a` | `b",
    "a\\|b",
    "a\\",
    "![x](https://example.com/x.png)",
    "<img src=x>",
    "a\nb",
    "a\r\nb",
    "a\u2028b",
    "a\n\n# b",
    " ",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_name_stays_in_its_cell(name: str) -> None:
    verdict = replace(
        FULL,
        model=name,
        benchmark=name,
        device=name,
        cost=replace(COST, dead_params=(name,), stages=(StageCost(name, 1, 1),)),
        versions={name: name},
        sandbox=name,
        problems=(name,),
        notes=(name,),
        advice=name,
    )
    heading, gap, _, _, *table, end = re.split(r"\r\n|\r|\n", to_markdown(verdict))
    assert end == ""
    assert re.fullmatch(r"### ❌ budget-check, benchmark `[^`]*`", heading)
    assert gap == ""
    assert len(table) == len(rows(verdict))
    for line in table:
        assert re.fullmatch(r"\| [a-zA-Z ]+ \| `([^`|]|\\\|)+` \|", line)


def test_measured_performance_has_rows() -> None:
    peak = PeakThroughput(4e12, "fp16", "gpu", {}, "2026-01-02")
    single, batch = Latency(1, 1000, 1.25, 1.2, 2.5, 800.0), Latency(256, 12, 128.0, 127.0, None, 2000.0)
    verdict = replace(
        FULL,
        inference=Inference(single, batch, 2**30, "fp16", "cpu", "2026-01-02"),
        utilization=Utilization(1e12, 0.25, peak),
        energy=TrainingEnergy(0.5, 1500.0, "NVML"),
    )
    for fact in ("1 TFLOP/s", "25.0%", "4 TFLOP/s", "fp16", "2026-01-02"):
        assert fact in text(verdict, "achieved")
    for fact in ("0.5 J", "1.50 kWh", "NVML"):
        assert fact in text(verdict, "energy")
    lines = [content for label, content in rows(verdict) if label == "inference"]
    for fact in ("batch 1", "mean 1.25 ms", "p50 1.2", "p99 2.5", "1,000 calls", "fp16"):
        assert fact in lines[0]
    for fact in ("2,000 images/s", "batch 256", "mean 128 ms", "too few calls for p99", "12 calls"):
        assert fact in lines[1]
    assert "1.0 GiB" in text(verdict, "inference memory")
    elsewhere = rows(replace(verdict, device="NVIDIA GeForce RTX 3090"))
    assert [content for label, content in elsewhere if label == "inference"] == lines  # measured on this device
    content = verdict.to_json()
    assert content["inference"]["single"]["p99"] == 2.5
    assert (content["utilization"]["share"], content["energy"]["joules_per_image"]) == (0.25, 0.5)
