"""Read a CSV file that lists images: a header, and one line with the path and the label of each image."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arch.errors import InputError
from benchmarks.datasets.listed_files import ClassFiles, ListedFiles
from benchmarks.definition.benchmark import DatasetConfig

CSV_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"  # the most frequent one in the header separates the columns

# Column names that are recognized, in any case, besides those of the benchmark.
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
SPLIT_COLUMNS = ("split", "set", "subset")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}


@dataclass(frozen=True)
class _Row:
    number: int  # line in the file
    path: Path
    label: str
    split: str


def is_csv_file(path: Path) -> bool:
    """Return whether a path has the suffix of a CSV file."""
    return path.suffix.lower() in CSV_SUFFIXES


def list_csv(path: Path, config: DatasetConfig) -> ListedFiles:
    """List the images of a CSV file. Their paths are relative to the folder of the file, or absolute.

    The optional column `split` contains train, test or val. If no row is in the test split, val is used in its place.
    Without the column, all rows are training images.

    Args:
        path: The CSV file.
        config: The benchmark's data set, which may set the names of the columns.

    Raises:
        InputError: If the file cannot be read or a line is invalid. The message contains the line number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count), strict=True)
            rows = list(_read_rows(path, reader, config))
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    _check_repetitions(path, rows)
    train, test, val = ([row for row in rows if row.split == split] for split in ("train", "test", "val"))
    notes: tuple[str, ...] = ()
    if val and not test:
        notes = ("the split val is used as the test split, because no row is in the split test",)
        test = val
    splits = (_by_class(train), _by_class(test) if test else None)
    return ListedFiles(path, *splits, (path,) * (2 if test else 1), notes=notes)


def _read_rows(path: Path, reader: "csv.DictReader[str]", config: DatasetConfig) -> Iterator[_Row]:
    columns = reader.fieldnames or ()
    path_column = _find_column(path, columns, config.image_column, PATH_COLUMNS, "image_column")
    label_column = _find_column(path, columns, config.label_column, LABEL_COLUMNS, "label_column")
    split_column = next((name for name in columns if name.strip().lower() in SPLIT_COLUMNS), None)
    for row in reader:
        values = {name: (row.get(name) or "").strip() for name in (path_column, label_column, split_column) if name}
        place = f"{path}, line {reader.line_num}"
        if None in row:  # where DictReader puts what follows the last column
            raise InputError(f"{place}: there are more fields than columns; a path with a comma needs quotes")
        for name in (path_column, label_column):
            if not values[name] or not values[name].isprintable():
                raise InputError(f"{place}: the column {name!r} is empty or contains a control character")
        split = values.get(split_column or "", "train")
        if split.lower() not in SPLIT_NAMES:
            raise InputError(f"{place}: split {split[:40]!r} is unknown; valid: {', '.join(SPLIT_NAMES)}")
        image = path.parent / values[path_column]
        if not image.is_file():
            raise InputError(f"{place}: there is no file {image}")
        yield _Row(reader.line_num, image, values[label_column], SPLIT_NAMES[split.lower()])


def _find_column(path: Path, columns: Sequence[str], chosen: str | None, known: Sequence[str], option: str) -> str:
    if chosen is not None:
        if chosen in columns:
            return chosen
        raise InputError(f"{path}, line 1: there is no column {chosen!r} ({option}); columns: {', '.join(columns)}")
    by_lowercase: Mapping[str, str] = {name.strip().lower(): name for name in reversed(columns)}
    for name in known:
        if name in by_lowercase:
            return by_lowercase[name]
    raise InputError(
        f"{path}, line 1: expected a header with a column such as {known[0]!r}, but the columns are "
        f"{', '.join(columns)[:200] or 'missing'}; add a header, or set {option} in [data] of the benchmark's TOML file"
    )


def _check_repetitions(path: Path, rows: Sequence[_Row]) -> None:
    first_rows: dict[Path, _Row] = {}
    for row in rows:
        first = first_rows.setdefault(row.path, row)
        if first is not row:
            raise InputError(f"{path}, line {row.number}: {row.path.name} is already in line {first.number}")


def _by_class(rows: Sequence[_Row]) -> ClassFiles:
    classes: ClassFiles = {label: [] for label in sorted({row.label for row in rows})}
    for row in rows:
        classes[row.label].append(row.path)
    return {label: sorted(paths) for label, paths in classes.items()}
