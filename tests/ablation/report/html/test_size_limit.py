from typing import Any

from ablation.report.html.size_limit import limit_size


def large_data() -> dict[str, Any]:
    """Return data in which each kind of content takes some kilobytes."""
    entries = [{"image": index, "class": 0, "before": 1, "after": 0} for index in range(16)]
    pair = {"before": 0, "after": 1, "num_fixed": 16, "num_broken": 0, "fixed": entries, "broken": []}
    numbers: list[float] = [1.25] * 120
    return {
        "changed_images": {"pairs": [pair], "thumbnails": {str(i): "x" * 1000 for i in range(16)}, "notes": []},
        "curves": {"rows": [{"row": 0, "epochs": list(range(120)), "metrics": {"top1": [numbers] * 4}}]},
        "confusions": {"rows": [{"row": row, "cells": [[1, 2, 3]] * 50} for row in range(10)]},
        "runs": {"rows": [{"runs": [["x" * 50]] * 100}]},
        "omissions": [],
    }


def test_small_data_stay_as_they_are() -> None:
    data = large_data()
    assert limit_size(data, 100_000) == data


def test_thumbnails_are_left_out_first() -> None:
    data = limit_size(large_data(), 26_000)
    [pair] = data["changed_images"]["pairs"]
    assert (len(pair["fixed"]), pair["num_fixed"], len(data["changed_images"]["thumbnails"])) == (8, 16, 8)
    assert data["curves"] == large_data()["curves"]
    assert "8 changed images" in data["omissions"][0]


def test_curves_follow_and_then_confusions_and_runs() -> None:
    data = limit_size(large_data(), 14_500)
    [line] = data["curves"]["rows"]
    assert data["changed_images"]["thumbnails"] == {}
    assert len(line["epochs"]) == len(line["metrics"]["top1"][3]) == 60
    assert len(data["confusions"]["rows"]) == 10
    data = limit_size(large_data(), 1)
    assert (data["confusions"]["rows"], len(data["runs"]["rows"][0]["runs"])) == ([], 5)
    assert "5 runs per row" in data["omissions"][0]
