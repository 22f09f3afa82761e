"""Names and colors of rows in figures and in the HTML report."""

from ablation.plans.row import Row
from arch.text import shorten

MAX_FIGURE_NAME_CHARACTERS = 30  # longer names are shortened
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
VERDICT_COLORS = {"real": "#00694c", "worse": "#a84300"}  # as in report.typ


def row_name(row: Row) -> str:
    """Return the name of a row in a figure."""
    return "baseline" if row.label.startswith("baseline (") else shorten(row.label, MAX_FIGURE_NAME_CHARACTERS)
