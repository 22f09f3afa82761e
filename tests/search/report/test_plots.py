from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from optuna.trial import FrozenTrial

from search import trial_attrs
from search.report.plots import LEAST, plot_front, plot_importance

Make = Callable[..., FrozenTrial]


def drawn(path: Path) -> set[tuple[int, int, int]]:
    """The colours of a picture."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return {(int(r), int(g), int(b)) for r, g, b in np.unique(pixels.reshape(-1, 3), axis=0)}


BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (153, 153, 153)


def many(make_trial: Make) -> list[FrozenTrial]:
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


def test_many_candidates_have_a_front_and_a_winner(make_trial: Make, tmp_path: Path) -> None:
    found = many(make_trial)
    plot_front(found, "spec3", 3, "digits-0123abcd: 60 candidates", tmp_path / "front.png")
    assert {BLUE, ORANGE, GREY} <= drawn(tmp_path / "front.png")


def test_one_candidate_is_drawn(make_trial: Make, tmp_path: Path) -> None:
    plot_front([make_trial()], "resnet8", 3, "one", tmp_path / "front.png")
    assert ORANGE in drawn(tmp_path / "front.png")


def test_equal_candidates_are_drawn_as_one(make_trial: Make, tmp_path: Path) -> None:
    plot_front([make_trial() for _ in range(5)], "resnet8", 3, "equal", tmp_path / "front.png")
    assert ORANGE in drawn(tmp_path / "front.png")


def test_a_winner_that_is_not_among_them_is_left_out(make_trial: Make, tmp_path: Path) -> None:
    plot_front([make_trial(top1=[t]) for t in (10.0, 20.0)], "another", 3, "no winner", tmp_path / "front.png")
    assert BLUE in drawn(tmp_path / "front.png")


@pytest.mark.parametrize("title", ["a $x^{2 of 10 & <b>|[red]", "$"])
def test_signs_in_a_title_are_text(make_trial: Make, tmp_path: Path, title: str) -> None:
    plot_front([make_trial()], "resnet8", 3, title, tmp_path / "front.png")
    plot_importance({title: 1.0}, title, tmp_path / "importance.png")
    assert BLUE in drawn(tmp_path / "importance.png")


def heights(path: Path) -> int:
    return int(imread(path).shape[0])


def test_the_most_important_choices_are_drawn_and_the_least_left_out(tmp_path: Path) -> None:
    few = {"width": 0.6, "attention": 0.3, "act": 0.1}
    plot_importance(few, "few", tmp_path / "few.png")
    plot_importance({**few, "pool": LEAST / 2}, "few", tmp_path / "more.png")
    assert (tmp_path / "few.png").read_bytes() == (tmp_path / "more.png").read_bytes()
    plot_importance({f"choice{i}": 0.05 for i in range(20)}, "many", tmp_path / "many.png")
    plot_importance({f"choice{i}": 0.05 for i in range(40)}, "many", tmp_path / "most.png")
    assert heights(tmp_path / "few.png") < heights(tmp_path / "many.png") == heights(tmp_path / "most.png")


@pytest.mark.parametrize("shares", [{"a": 0.0, "b": 0.0}, {"a": 1.0}, {f"c{i}": 0.001 for i in range(30)}])
def test_shares_that_say_little_are_drawn(tmp_path: Path, shares: dict[str, float]) -> None:
    plot_importance(shares, "title", tmp_path / "importance.png")
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
