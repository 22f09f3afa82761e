from pathlib import Path

import numpy as np
import pytest

from arch.errors import InputError
from search.studies.nas_simulation import Conditions, accuracy_at, simulate
from search.studies.nas_strategies import LIBRARIES, STRATEGIES, is_installed
from search.studies.nas_table import FULL, SHORT, NasTable, count_nas_bench_201


def test_table_columns_are_found_by_their_suffix(nas_table: Path) -> None:
    table = NasTable.read(nas_table, epochs=160)
    assert table.accuracy.shape == table.seconds.shape == (2, 256)
    assert table.ratio == 16
    assert np.allclose(table.seconds[1], 16 * table.seconds[0])
    sizes = [len(choice.choices) for choice in table.search_space.values()]
    assert sizes == [4, 4, 4, 4]


def skip_unless_installed(strategy: str) -> None:
    if not is_installed(strategy):
        pytest.skip(f"needs {LIBRARIES[strategy]}")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_uses_its_time_and_returns_a_model_of_the_table(nas_table: Path, strategy: str) -> None:
    skip_unless_installed(strategy)
    table, conditions = NasTable.read(nas_table, epochs=160), Conditions(budget=5, noise=0.2)
    curve = simulate(table, strategy, seed=0, conditions=conditions)
    times, accuracies = zip(*curve, strict=True)
    assert list(times) == sorted(times)
    assert times[-2] < 5 <= times[-1] < 5 + table.seconds.max() / table.full_run_seconds
    assert set(accuracies) <= set(table.accuracy[1])
    assert curve == simulate(table, strategy, seed=0, conditions=conditions)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_forbidden_models_are_not_trained(nas_table: Path, strategy: str) -> None:
    skip_unless_installed(strategy)
    table = NasTable.read(nas_table, epochs=160).within_quantile(0.5)
    forbidden = set(table.accuracy[1]) - set(table.accuracy[1, table.allowed])
    curve = simulate(table, strategy, seed=0, conditions=Conditions(budget=2))
    assert forbidden
    assert not {accuracy for _, accuracy in curve} & forbidden


def test_shuffled_short_runs_keep_the_full_ones(nas_table: Path) -> None:
    table = NasTable.read(nas_table, 200)
    first, second = (table.with_shuffled_short_runs(seed) for seed in range(2))
    assert (first.accuracy[SHORT] != second.accuracy[SHORT]).any()
    assert sorted(first.accuracy[SHORT]) == sorted(table.accuracy[SHORT])
    assert (first.accuracy[FULL] == table.accuracy[FULL]).all()


def test_resampled_tables_have_one_value_less_of_each_choice(nas_table: Path) -> None:
    table = NasTable.read(nas_table, epochs=160)
    resampled = [table.without_random_values(seed) for seed in range(4)]
    assert len({part.choices for part in resampled}) > 1
    for part in resampled:
        assert [len(choice.choices) for choice in part.search_space.values()] == [3, 3, 3, 3]
        assert len(part.choices) == 3**4
        for index in (0, len(part.choices) - 1):
            row = table.by_choices[part.choices[index]]
            assert part.params[index] == table.params[row]
            assert (part.accuracy[:, index] == table.accuracy[:, row]).all()
            assert (part.seconds[:, index] == table.seconds[:, row]).all()


def test_parameters_of_nas_bench_201_are_those_of_the_paper() -> None:
    """Dong and Yang 2020 (arXiv:2001.00326): 1.531546M with only 3x3 convolutions, 0.073306M without any."""
    assert count_nas_bench_201(["nor_conv_3x3"] * 6) == 1_531_546
    assert count_nas_bench_201(["none", "skip_connect", "avg_pool_3x3"] * 2) == 73_306


def test_accuracy_before_the_first_evaluation_is_the_worst() -> None:
    assert accuracy_at([(1.0, 70.0), (3.0, 80.0)], [0.5, 1.0, 2.9, 3.0, 9.0], 10.0).tolist() == [10, 70, 70, 80, 80]


def test_missing_column_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "models.csv"
    path.write_text("arch,x_test_mean\na|b,1\n")
    with pytest.raises(InputError, match="no column that matches"):
        NasTable.read(path, 200)
    with pytest.raises(InputError, match="cannot read"):
        NasTable.read(tmp_path / "none.csv", 200)
