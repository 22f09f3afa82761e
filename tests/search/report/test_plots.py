from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from optuna.trial import FrozenTrial

from search import trial_attrs
from search.report.plots import MIN_SHARE_IN_PLOT, plot_front, plot_importance

pytestmark = pytest.mark.slow

Make = Callable[..., FrozenTrial]
BLUE, ORANGE, GRAY = 0x0072B2, 0xD55E00, 0x999999


def colors(path: Path) -> set[int]:
    """Return the RGB colors that occur in an image."""
    channels = (imread(path)[..., :3] * 255).round().astype(int)
    return set(np.unique(channels @ [1 << 16, 1 << 8, 1]).tolist())


def height(path: Path) -> int:
    return int(imread(path).shape[0])


def many_trials(make_trial: Make) -> list[FrozenTrial]:
    rng = np.random.default_rng(0)
    params = rng.integers(5_000, 200_000, 60)
    return [
        make_trial(
            top1=[90 + 8 * np.log(p / 5_000) / np.log(40) - rng.random() * 4],
            **{
                trial_attrs.PARAMS: int(p),
                trial_attrs.HOURS: float(0.01 + p / 1e6 * rng.random()),
                trial_attrs.SPEC: f"spec{i}",
            },
        )
        for i, p in enumerate(params)
    ]


def test_plot_contains_candidates_front_and_winner(make_trial: Make, tmp_path: Path) -> None:
    plot_front(many_trials(make_trial), "spec3", 3, "digits-0123abcd: 60 candidates", tmp_path / "front.png")
    assert {BLUE, ORANGE, GRAY} <= colors(tmp_path / "front.png")


@pytest.mark.parametrize("num_trials", [1, 5])
def test_equal_candidates_are_plotted(make_trial: Make, tmp_path: Path, num_trials: int) -> None:
    plot_front([make_trial() for _ in range(num_trials)], "resnet8", 3, "equal", tmp_path / "front.png")
    assert ORANGE in colors(tmp_path / "front.png")


def test_unknown_winner_is_not_plotted(make_trial: Make, tmp_path: Path) -> None:
    trials = [make_trial(top1=[top1]) for top1 in (10.0, 20.0)]
    plot_front(trials, "another", 3, "no winner", tmp_path / "front.png")
    assert BLUE in colors(tmp_path / "front.png")


@pytest.mark.parametrize("title", ["a $x^{2 of 10 & <b>|[red]", "$"])
def test_title_is_plain_text(make_trial: Make, tmp_path: Path, title: str) -> None:
    plot_front([make_trial()], "resnet8", 3, title, tmp_path / "front.png")
    plot_importance({title: 1.0}, title, tmp_path / "importance.png")
    assert BLUE in colors(tmp_path / "importance.png")


def test_only_the_most_important_choices_are_plotted(tmp_path: Path) -> None:
    three = {"width": 0.6, "attention": 0.3, "act": 0.1}
    plot_importance(three, "three", tmp_path / "three.png")
    plot_importance({**three, "pool": MIN_SHARE_IN_PLOT / 2}, "three", tmp_path / "tiny_share.png")
    assert (tmp_path / "three.png").read_bytes() == (tmp_path / "tiny_share.png").read_bytes()
    plot_importance({f"choice{i}": 0.05 for i in range(20)}, "many", tmp_path / "20.png")
    plot_importance({f"choice{i}": 0.05 for i in range(40)}, "many", tmp_path / "40.png")
    assert height(tmp_path / "three.png") < height(tmp_path / "20.png") == height(tmp_path / "40.png")


@pytest.mark.parametrize("shares", [{"a": 0.0, "b": 0.0}, {"a": 1.0}, {f"c{i}": 0.001 for i in range(30)}])
def test_degenerate_shares_are_plotted(tmp_path: Path, shares: dict[str, float]) -> None:
    plot_importance(shares, "title", tmp_path / "importance.png")
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
