from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from arch.errors import InputError
from search.studies.nas_tables import STRATEGIES, NasTable, accuracy_at, main, simulate, times_earlier

WORDS = ("none", "skip", "conv1", "conv3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """256 nets of four choices; short trainings say roughly what whole ones do."""
    lines = []
    for number, choices in enumerate(product(range(4), repeat=4)):
        true = 60 + 2 * sum(choices) + choices[0] * choices[1]
        told = true / 2 + number * 37 % 11 / 4
        arch = "|" + "|+|".join(f"{WORDS[choice]}~0" for choice in choices) + "|"
        lines.append({"arch": arch, "x_test_mean": true, "x_val_ep10": told, "x_time_ep10": 50 + 10 * choices[3]})
    path = tmp_path / "nets.csv"
    pd.DataFrame(lines).to_csv(path, index=False)
    return path


def test_a_table_is_read_by_the_endings_of_its_columns(file: Path) -> None:
    table = NasTable.read(file, epochs=160)
    assert table.accuracy.shape == table.seconds.shape == (2, 256)
    assert table.ratio == 16
    assert np.allclose(table.seconds[1], 16 * table.seconds[0])
    assert [len(choice.choices) for choice in table.space().values()] == [4, 4, 4, 4]  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_spends_its_time_and_hands_in_a_net_of_the_table(file: Path, strategy: str) -> None:
    table = NasTable.read(file, epochs=160)
    curve = simulate(table, strategy, seed=0, trainings=8, noise=0.2)
    times, accuracies = zip(*curve, strict=True)
    assert list(times) == sorted(times)
    assert times[-2] < 8 <= times[-1] < 8 + table.seconds.max() / table.whole_training
    assert set(accuracies) <= set(table.accuracy[1])
    assert curve == simulate(table, strategy, seed=0, trainings=8, noise=0.2)


def test_before_the_first_look_there_is_nothing_to_hand_in() -> None:
    assert accuracy_at([(1.0, 70.0), (3.0, 80.0)], [0.5, 1.0, 2.9, 3.0, 9.0], 10.0).tolist() == [10, 70, 70, 80, 80]


def test_how_much_sooner_is_the_ratio_of_times() -> None:
    times = np.arange(1.0, 11.0)
    theirs, ours = np.array([11 - times]), np.array([11 - 2 * times])
    assert times_earlier(times, ours, theirs, 8) == 2.0
    assert times_earlier(times, theirs, ours, 10) == 0.0


def test_the_command_leaves_summary_curves_and_figure(file: Path, tmp_path: Path) -> None:
    options = [
        "--seeds",
        "2",
        "--trainings",
        "20",
        "--epochs",
        "160",
        "--processes",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([str(file), *options, "--strategies", "ours", "random"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.md", "curves.csv", "regret.png"}
    assert "ours sooner than at 20" in (tmp_path / "out" / "summary.md").read_text()
    assert pd.read_csv(tmp_path / "out" / "curves.csv")["random"].is_monotonic_decreasing


def test_a_table_without_a_column_names_it(tmp_path: Path) -> None:
    path = tmp_path / "nets.csv"
    path.write_text("arch,x_test_mean\na|b,1\n")
    with pytest.raises(InputError, match="no column like"):
        NasTable.read(path, 200)
    with pytest.raises(InputError, match="cannot read"):
        NasTable.read(tmp_path / "none.csv", 200)
