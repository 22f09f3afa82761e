"""Keep the HTML report below its size limit: leave out thumbnails first, then points of curves, then the rest."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ablation.report.html.curve_data import thin_out

MAX_DATA_BYTES = 3_800_000  # the page with its scripts stays below 5 MB

Data = dict[str, Any]


def limit_size(data: Data, max_bytes: int = MAX_DATA_BYTES) -> Data:
    """Return the data, reduced step by step until they fit. `omissions` describes what was left out."""
    for reduce, sentence in (None, ""), *_reductions():
        if reduce is not None:
            data = reduce(data)
        if len(json.dumps(data)) <= max_bytes:
            return {**data, "omissions": [sentence] if sentence else []}
    return {**data, "omissions": [sentence]}


def _reductions() -> Iterator[tuple[Callable[[Data], Data], str]]:
    """Yield functions that shorten the data further and further, and what to say after each."""
    prefix = "To keep this file small, "
    for limit in (8, 4, 0):
        yield (
            partial(_limit_thumbnails, limit=limit),
            f"{prefix}at most {limit} changed images per direction are shown.",
        )
    for limit in (60, 30):
        yield partial(_limit_points, limit=limit), f"{prefix}no images and at most {limit} epochs per curve are shown."
    for limit in (6, 0):
        sentence = f"{prefix}no images, 30 epochs per curve and {limit} confusion matrices are shown."
        yield partial(_limit_confusions, limit=limit), sentence
    for limit in (50, 5):
        sentence = f"{prefix}no images, 30 epochs per curve, no confusion matrix and {limit} runs per row are shown."
        yield partial(_limit_runs, limit=limit), sentence


def _limit_thumbnails(data: Data, limit: int) -> Data:
    section = data["changed_images"]
    pairs = [{**pair, "fixed": pair["fixed"][:limit], "broken": pair["broken"][:limit]} for pair in section["pairs"]]
    shown = {str(entry["image"]) for pair in pairs for entry in (*pair["fixed"], *pair["broken"])}
    thumbnails = {index: url for index, url in section["thumbnails"].items() if index in shown}
    return {**data, "changed_images": {**section, "pairs": pairs, "thumbnails": thumbnails}}


def _limit_points(data: Data, limit: int) -> Data:
    def shorten(line: Data) -> Data:
        metrics = {name: [thin_out(values, limit) for values in lists] for name, lists in line["metrics"].items()}
        return {**line, "epochs": thin_out(line["epochs"], limit), "metrics": metrics}

    section = data["curves"]
    return {**data, "curves": {**section, "rows": list(map(shorten, section["rows"]))}}


def _limit_confusions(data: Data, limit: int) -> Data:
    section = data["confusions"]
    return {**data, "confusions": {**section, "rows": section["rows"][:limit]}}


def _limit_runs(data: Data, limit: int) -> Data:
    section = data["runs"]
    rows = [{**row, "runs": row["runs"][:limit]} for row in section["rows"]]
    return {**data, "runs": {**section, "rows": rows}}
