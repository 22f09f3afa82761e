import numpy as np

from ablation.plans.plan import path
from ablation.studies.calibration import EFFECT, SPREAD, frames, judge, make_records
from benchmarks.definition.benchmark import BENCHMARKS

ROWS = path("baseline+se+cbam", BENCHMARKS["digits"])


def test_made_up_records_have_the_spread_the_steps_and_the_likeness_they_should() -> None:
    for likeness in (0.0, 0.5):
        made = make_records(ROWS, 0.3, 4000, np.random.default_rng(0), likeness)
        top1 = np.array([record.top1 for record in made]).reshape(3, 4000)
        assert np.allclose(top1.mean(1), [80.0, 80.3, 80.6], atol=0.02)
        assert np.allclose(top1.std(1), SPREAD, rtol=0.05)
        assert np.allclose(np.corrcoef(top1)[np.triu_indices(3, 1)], likeness, atol=0.05)


def test_a_table_has_so_many_steps_each_compared_with_the_one_before() -> None:
    [frame] = frames(7, 1, EFFECT, 3, "unpaired")
    assert len(frame) == 7
    assert frame["change"].notna().all()
    assert frame["spec"].is_unique


def test_shares_are_those_of_the_verdicts() -> None:
    certain = judge(1, 5, 50.0, 6, "unpaired", 0.0)
    assert (certain["called real %"], certain["called worse %"], certain["n"]) == (100.0, 0.0, 5)
    nothing = judge(2, 5, 0.0, 3, "unpaired", 0.0)
    assert (nothing["called real %"], nothing["tables with any %"], nothing["n"]) == (0.0, 0.0, 10)
