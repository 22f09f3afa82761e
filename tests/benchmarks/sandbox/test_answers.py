from dataclasses import asdict

from benchmarks.budget.performance import PeakThroughput, TrainingEnergy, Utilization
from benchmarks.budget.verdict import ModelCost, Verdict
from benchmarks.definition.benchmark import Benchmark
from benchmarks.sandbox.answers import read_verdict
from benchmarks.sandbox.limits import SandboxLimits
from benchmarks.sandbox.messages import SandboxAnswer


def test_child_cannot_report_utilization_and_energy(tiny: Benchmark) -> None:
    verdict = Verdict(
        *("a.py:Net", "tiny", tiny.budget, 8, 32, ModelCost(1, 1)),
        utilization=Utilization(1e15, 1.0, PeakThroughput(1e15, "fp32", "forged", {}, "2026-01-01")),
        energy=TrainingEnergy(1e-9, 1e-9, "forged"),
    )
    read = read_verdict(SandboxAnswer({"verdict": asdict(verdict)}, ""), SandboxLimits())
    assert (read.utilization, read.energy) == (None, None)
    assert read.cost == verdict.cost
