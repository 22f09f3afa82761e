"""Names of rows for people: the labels that `--label` gives rows, and the names of the files of initial weights.

A label belongs to a config and its default label, so it is kept when a plan becomes longer. It changes no key, record
or file name.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablation.plans.plan import Plan
from ablation.plans.row import Row
from ablation.plans.steps import BASELINE
from arch.errors import InputError
from arch.spec import parse
from arch.text import printable
from benchmarks.definition.config_parser import WEIGHTS_DIGEST, read_run_config
from benchmarks.records.atomic_write import replace_file
from benchmarks.records.paths import initial_weights_names

DIGEST = re.compile(rf"\b{WEIGHTS_DIGEST.pattern}\b")
DIGEST_CHARACTERS_IN_LABEL = 6
MAX_LABEL_CHARACTERS = 60
ANY_BASE = "resnet8"


@dataclass(frozen=True)
class RowNames:
    """The labels of rows and the names of initial weights.

    Attributes:
        labels: The label of a row by the key of its config and its default label (or the name of its series).
        weights: The name of the file of initial weights by their digest.
    """

    labels: Mapping[tuple[str, str], str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def name_weights(self, text: str, with_digests: bool = False) -> str:
        """Return a text with the names of weights files instead of digests. Digests without a name are shortened.

        Args:
            text: A text that may contain digests.
            with_digests: Whether shortened digests follow the names, to tell files of the same name apart.
        """

        def name(match: re.Match[str]) -> str:
            short, weights = match[0][:DIGEST_CHARACTERS_IN_LABEL], self.weights.get(match[0])
            return short if weights is None else f"{weights} ({short})" if with_digests else weights

        return DIGEST.sub(name, text)

    def apply(self, plan: Plan) -> Plan:
        """Return a plan, as it was parsed, with these names in its rows.

        Labels that name two of its rows or series are not used. They are unique only in the plans they were given for.
        """
        named = self._apply_all(plan)
        if not (repeated := self._repeated_labels(plan, named)):
            return named
        unique = {row: label for row, label in self.labels.items() if label not in repeated}
        return replace(self, labels=unique).apply(plan)

    def _apply_all(self, plan: Plan) -> Plan:
        counts = Counter(self.name_weights(row.label) for row in plan.rows)
        return replace(plan, rows=tuple(self._named(row, counts) for row in plan.rows))

    def _repeated_labels(self, plan: Plan, named: Plan) -> dict[str, int]:
        """Return the labels that name several rows, or several series, of a plan, with the number of these."""
        rows = {(row.label, shown.label) for row, shown in zip(plan.rows, named.rows, strict=True)}
        series = {(row.series, shown.series) for row, shown in zip(plan.rows, named.rows, strict=True)}
        counts = Counter(shown for _, shown in rows) | Counter(shown for _, shown in series)
        return {label: counts[label] for label in self.labels.values() if counts[label] > 1}

    def _named(self, row: Row, counts: Mapping[str, int]) -> Row:
        is_ambiguous = counts[self.name_weights(row.label)] > 1
        label, default_series = (self.name_weights(text, is_ambiguous) for text in (row.label, row.series))
        series = self.labels.get((row.key, row.series), default_series)
        if series != default_series:
            label = label.replace(default_series, series, 1)
        return replace(row, label=self.labels.get((row.key, row.label), label), series=series)

    def add(self, texts: Sequence[str], plan: Plan) -> "RowNames":
        """Return these names with more labels.

        Args:
            texts: Labels as `ROW=LABEL`, where ROW is the row's default label, its spec or the name of its series. An
                empty label restores the default.
            plan: The plan whose rows they name, as it was parsed.

        Raises:
            InputError: If a row does not exist, or a label is too long or names two rows.
        """
        labels = dict(self.labels)
        for text in texts:
            for row, name, label in self._rows_of(text, plan):
                labels[row.key, name] = label
        names = replace(self, labels={row: label for row, label in labels.items() if label})
        for label, count in names._repeated_labels(plan, names._apply_all(plan)).items():
            raise InputError(f"--label: {label!r} would name {count} rows: use different labels")
        return names

    def _rows_of(self, text: str, plan: Plan) -> list[tuple[Row, str, str]]:
        """Return the rows that `ROW=LABEL` names, each with its default label or series and the new label."""
        shown_rows = self.apply(plan).rows
        for position in reversed([index for index, letter in enumerate(text) if letter == "="]):
            word, label = text[:position], text[position + 1 :].strip()
            names = [(row, named_by(word, row, shown)) for row, shown in zip(plan.rows, shown_rows, strict=True)]
            if not any(name for _, name in names):
                continue
            if len(label) > MAX_LABEL_CHARACTERS or label != printable(label):
                raise InputError(f"--label {text!r}: a label has up to {MAX_LABEL_CHARACTERS} printable characters")
            if _names_a_row(label) and not any(name == label for _, name in names):
                raise InputError(f"--label {text!r}: {label!r} is a spec or a step: use another name")
            return [(row, name, label) for row, name in names if name]
        rows = ", ".join(row.label for row in shown_rows)
        raise InputError(f"--label {text!r} is not ROW=LABEL with one of the rows {rows}")


def named_by(word: str, row: Row, shown: Row) -> str:
    """Return what a word names: the default label of a row, its series, or "" for neither.

    Args:
        word: The row's label or spec, in any spelling, or the name of its series.
        row: The row as it was parsed.
        shown: The row with its names.
    """
    if row.series and word in (row.series, shown.series):
        return row.series
    is_baseline = word == BASELINE and row.label.startswith(f"{BASELINE} (")
    is_label = row.label in (word, _canonical_step(word)) or word == shown.label
    is_spec = not row.series and (word == row.spec or _key_of(word) == row.key)
    return row.label if is_baseline or is_label or is_spec else ""


def _names_a_row(label: str) -> bool:
    """Return whether a label is also a spec or a step."""
    return label == BASELINE or bool(_key_of(label)) or bool(_canonical_step(label))


def _canonical_step(word: str) -> str:
    """Return a step as labels contain it, `+width` for `+width=2` if 2 is the default; "" if it is not a step."""
    try:
        return word[:1] + "".join(map(str, parse(f"{ANY_BASE}+{word[1:]}").steps))[1:] if word[:1] in "+~" else ""
    except InputError:
        return ""


def _key_of(spec: str) -> str:
    """Return the key of a config; "" if it is not one."""
    try:
        return read_run_config(spec).key
    except InputError:
        return ""


def name_rows(plan: Plan, outs: Sequence[Path], new_labels: Sequence[str] = ()) -> Plan:
    """Return a plan with the names that are stored in the output folders.

    Args:
        plan: The plan, as it was parsed and with the digests of its initial weights.
        outs: The output folders.
        new_labels: Labels to add: see `RowNames.add`. They are stored in the first folder.

    Raises:
        InputError: If a new label is invalid or cannot be stored.
    """
    names = read_names(outs)
    if new_labels:
        names = names.add(new_labels, plan)
        _write_labels(outs[0], names)
    return names.apply(plan)


def read_names(outs: Sequence[Path]) -> RowNames:
    """Return the names that are stored in output folders. Names of earlier folders take precedence."""
    labels: dict[tuple[str, str], str] = {}
    weights: dict[str, str] = {}
    for out in reversed(outs):
        weights |= initial_weights_names(out)
        labels |= _read_labels(out)
    return RowNames(labels, weights)


def merge_labels(out: Path, others: Sequence[Path]) -> None:
    """Add the labels that are stored in other folders to those of a folder, which take precedence."""
    names = read_names([out, *others])
    if names.labels:
        _write_labels(out, names)


def _labels_file(out: Path) -> Path:
    return out / "labels.json"


def _read_labels(out: Path) -> dict[tuple[str, str], str]:
    """Return the stored labels; none if there is no file. Raises InputError if it is damaged."""
    file = _labels_file(out)
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise TypeError("it is not a list")
        return {(str(entry["key"]), str(entry["row"])): printable(str(entry["label"])) for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{file} cannot be read ({type(error).__name__}: {error}): repair it, or delete it to use no labels"
        ) from error


def _write_labels(out: Path, names: RowNames) -> None:
    entries = [{"key": key, "row": row, "label": label} for (key, row), label in names.labels.items()]
    content = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    try:
        replace_file(_labels_file(out), lambda file: file.write_text(content, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot write to --out {out}: {error.strerror or error}") from error
