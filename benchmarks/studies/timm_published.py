"""Compare counts of parameters and MACs with the values that timm published, for `benchmarks.studies.timm_macs`."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

FILES = "benchmark-infer-*.csv"
HALF_UNIT = 0.005  # of the published numbers, in GMACs and millions of parameters
TOLERANCES = {"published digits": 0.0, "0.1%": 0.001, "1%": 0.01, "5%": 0.05}
COUNTS = {"macs_fvcore": "fvcore", "macs_torch": "torch", "macs": "the larger (budget-check)", "params": "parameters"}


class Published(NamedTuple):
    """One published pair of numbers of a line."""

    gmacs: float
    mparams: float


class Line(NamedTuple):
    """A published line: a model at an image size in pixels."""

    model: str
    image_size: int


@dataclass(frozen=True)
class Counts:
    """The counts of a line; None if the model could not be counted, or not by one of the counters."""

    model: str
    image_size: int
    family: str = ""
    params: int | None = None
    macs_torch: int | None = None
    macs_fvcore: int | None = None
    uncounted: tuple[str, ...] = ()
    fvcore_operators: dict[str, int] = field(default_factory=dict)
    fvcore_omits: tuple[str, ...] = ()
    error: str = ""


def read_published(folder: Path) -> dict[Line, set[Published]]:
    """Return the published values of each line, the lines with the fewest MACs first."""
    import pandas as pd

    published: dict[Line, set[Published]] = defaultdict(set)
    table = pd.concat(map(pd.read_csv, sorted(folder.glob(FILES)))).dropna(subset="infer_gmacs")
    for row in table.sort_values("infer_gmacs").to_dict("records"):
        line = Line(row["model"], int(row["infer_img_size"]))
        published[line].add(Published(row["infer_gmacs"], row["param_count"]))
    return published


def compare(counts: Counts, published: set[Published]) -> dict[str, object]:
    """Return a row of the table: the counts, the published values, and the relative differences beyond rounding."""
    millions, billions = (counts.params or 0) / 1e6, (counts.macs_fvcore or counts.macs_torch or 0) / 1e9
    reference = min(published, key=lambda pair: (abs(pair.mparams - millions), abs(pair.gmacs - billions)))
    numbers: dict[str, tuple[int | None, float, float]] = {
        "params": (counts.params, reference.mparams, 1e6),
        "macs_torch": (counts.macs_torch, reference.gmacs, 1e9),
        "macs_fvcore": (counts.macs_fvcore, reference.gmacs, 1e9),
    }
    both = (counts.macs_torch, counts.macs_fvcore)
    numbers["macs"] = (None if None in both else max(both, key=lambda macs: macs or 0), reference.gmacs, 1e9)
    differences = {f"{name}_difference": _difference(*number) for name, number in numbers.items()}
    return asdict(counts) | {"gmacs": reference.gmacs, "mparams": reference.mparams, **differences}


def _difference(count: int | None, published: float, unit: float) -> float | None:
    """Return the signed difference to the nearest number that would be published so, relative to the published one."""
    if count is None:
        return None
    difference = count / unit - published
    beyond = max(0.0, abs(difference) - HALF_UNIT - 1e-9)
    return beyond / published * (1 if difference > 0 else -1)


def summarize(rows: "pd.DataFrame", names: list[str]) -> str:
    """Return a Markdown table of the share of lines within each tolerance.

    Args:
        rows: The rows of `compare`.
        names: The columns of counts, such as "macs_torch".
    """
    lines = [f"| count | lines | {' | '.join(TOLERANCES)} |", "|:--|--:" + "|--:" * len(TOLERANCES) + "|"]
    for name in names:
        differences = rows[f"{name}_difference"].dropna().abs()
        shares = [f"{(differences <= tolerance).mean():.1%}" for tolerance in TOLERANCES.values()]
        lines.append(f"| {COUNTS[name]} | {len(differences)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def summarize_families(rows: "pd.DataFrame") -> str:
    """Return a Markdown table of the families with a difference above 1%, by fvcore's count where there is one."""
    import pandas as pd

    best = rows["macs_fvcore_difference"].fillna(rows["macs_torch_difference"]).abs()
    table = pd.DataFrame({"lines": best.groupby(rows["family"]).size()})
    for name, tolerance in list(TOLERANCES.items())[1:]:
        table[f"above {name}"] = (best > tolerance).groupby(rows["family"]).sum()
    lines = ["| family | " + " | ".join(table.columns) + " |", "|:--" + "|--:" * len(table.columns) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table[table["above 1%"] > 0].itertuples()]
    return "\n".join(lines)
