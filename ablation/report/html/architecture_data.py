"""The architectures of the HTML report: the stages of each row, from stem to head."""

from typing import Any

from ablation.analysis.recorded_architecture import architecture_of
from ablation.analysis.records import RecordedPlan
from arch.text import printable
from benchmarks.budget.verdict import format_count

MAX_ROWS = 60


def architecture_data(recorded: RecordedPlan) -> list[dict[str, Any]]:
    """Return the sections of the first rows whose records contain them."""
    rows = enumerate(recorded.rows[:MAX_ROWS])
    found = ((index, architecture_of(recorded, row)) for index, row in rows)
    return [{"row": index, "sections": list(map(_section, sections))} for index, sections in found if sections]


def _section(section: dict[str, Any]) -> dict[str, Any]:
    is_stage = bool(section["block"])
    repeats = f"{section['blocks']} × " if section["blocks"] > 1 else ""
    has_shortcut = is_stage and not section.get("plain", False)  # older records do not contain "plain"
    shortcut = ", ".join(map(str, section["shortcut"])) or "identity"
    return {
        "name": printable(section["name"]),
        "block": printable(f"{repeats}{section['block']}" if is_stage else ""),
        "layers": [printable(str(layer)) for layer in section["branch"]],
        "attention": [printable(str(name)) for name in section["attention"]],
        "shortcut": printable(shortcut) if has_shortcut else "",
        "output": " × ".join(printable(str(size)) for size in section["output"]),
        "params": f"{format_count(section['params'])} params".replace("  ", " "),
    }
