import numpy as np

from ablation.plans.plan import parse_plan
from ablation.studies.calibration import EFFECT, SPREAD, Scenario, evaluate, simulate_frames, simulate_records
from benchmarks.definition.registry import BENCHMARKS

ROWS = parse_plan("baseline+se+cbam", BENCHMARKS["digits"]).rows


def test_simulated_records_have_the_spread_effect_and_correlation_of_the_scenario() -> None:
    for correlation in (0.0, 0.5):
        scenario = Scenario(steps=2, effect=0.3, seeds=4000, correlation=correlation)
        records = simulate_records(ROWS, scenario, np.random.default_rng(0))
        top1 = np.array([record.top1 for record in records]).reshape(3, 4000)
        assert np.allclose(top1.mean(1), [80.0, 80.3, 80.6], atol=0.02)
        assert np.allclose(top1.std(1), SPREAD, rtol=0.05)
        assert np.allclose(np.corrcoef(top1)[np.triu_indices(3, 1)], correlation, atol=0.05)


def test_each_step_is_compared_with_the_previous_row() -> None:
    [frame] = simulate_frames(Scenario(steps=7, effect=EFFECT, seeds=3), tables=1)
    assert len(frame) == 7
    assert frame["change"].notna().all()
    assert frame["spec"].is_unique


def test_percentages_of_verdicts() -> None:
    certain = evaluate(Scenario(steps=1, effect=50.0, seeds=6), tables=5)
    assert (certain["real %"], certain["worse %"], certain["n"]) == (100.0, 0.0, 5)
    no_effect = evaluate(Scenario(steps=2, effect=0.0, seeds=3), tables=5)
    assert (no_effect["real %"], no_effect["tables with any %"], no_effect["n"]) == (0.0, 0.0, 10)
