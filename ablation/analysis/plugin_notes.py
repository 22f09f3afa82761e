"""The notes on plugins below an ablation table: which rows depend on which version."""

from collections import Counter, defaultdict

from ablation.analysis.records import RecordedPlan
from arch.layers import short_version
from arch.text import printable, shorten


def plugin_notes(recorded: RecordedPlan) -> list[str]:
    """Return one line per version of a plugin, and one about runs of other versions, which the table leaves out."""
    rows_of: dict[str, list[str]] = defaultdict(list)
    for row in recorded.rows:
        for run in recorded.runs(row)[:1]:
            for name, digest in run.plugins.items():
                rows_of[_version(name, digest)].append(shorten(row.label))
    lines = [f"{version}: {', '.join(labels)}." for version, labels in rows_of.items()]
    keys, specs = {row.key for row in recorded.rows}, {row.spec for row in recorded.rows}
    others = Counter(
        _version(*plugin)
        for record in recorded.records
        if record.spec in specs and record.key not in keys
        for plugin in record.plugins.items()
    )
    if others:
        counts = ", ".join(f"{count} with {version}" for version, count in others.items())
        lines.append(f"Runs of other versions are not in the table: {counts}.")
    return list(map(printable, lines))


def _version(name: str, digest: str) -> str:
    return f"{name}, version {short_version(digest)}"
