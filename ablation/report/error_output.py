"""The files of an error analysis: accuracy per class, the confusion matrix, and its image."""

from pathlib import Path

import pandas as pd

from ablation.analysis.errors import ErrorAnalysis
from ablation.analysis.table_formats import quote_formula
from arch.errors import InputError
from arch.text import plural, shorten
from benchmarks.cli.figures import write_figure
from benchmarks.records.atomic_write import replace_file

MAX_TITLE_CHARACTERS = 50  # of the image


def write_error_analysis(analysis: ErrorAnalysis, stem: Path) -> list[Path]:
    """Write all classes and the whole confusion matrix as CSV, and the matrix as an image.

    Args:
        analysis: The error analysis. Without predictions there is no confusion matrix.
        stem: The path of the files without `.csv`, `_confusion.csv` and `_confusion.png`.

    Returns:
        The written files.

    Raises:
        InputError: If a file cannot be written.
    """
    classes_file, matrix_file, image_file = (
        stem.with_name(stem.name + suffix) for suffix in (".csv", "_confusion.csv", "_confusion.png")
    )
    classes = list(analysis.per_class["class"])
    names = [quote_formula(name) for name in classes]
    confusion = analysis.confusion
    try:
        per_class = analysis.per_class.assign(**{"class": names}).round(4)
        _write_csv(per_class.set_index("class"), classes_file)
        if confusion is None:
            return [classes_file]
        _write_csv(pd.DataFrame(confusion, index=names, columns=names), matrix_file)
        num_seeds = len(analysis.seeds) - len(analysis.seeds_without_predictions)
        title = f"{shorten(analysis.row.spec, MAX_TITLE_CHARACTERS)}, {plural(num_seeds, 'seed')}"

        def draw(file: Path) -> None:
            from ablation.report.confusion_matrix import plot_confusion  # imports matplotlib

            plot_confusion(confusion, classes, title, file)

        images = write_figure(image_file, draw)
    except OSError as error:
        raise InputError(f"cannot write to {stem.parent}: {error.strerror or error}") from error
    return [classes_file, matrix_file, *images]


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    replace_file(path, lambda file: file.write_bytes(frame.to_csv(lineterminator="\n").encode()))
