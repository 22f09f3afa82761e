"""Render the HTML report: one file with its data, style and scripts, which loads nothing from a network."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ablation.analysis.records import RecordedPlan
from ablation.analysis.table_formats import AblationTable
from ablation.report.author_text import NO_AUTHOR_TEXT, AuthorText
from ablation.report.html.chart_library import chart_library
from ablation.report.html.page_data import page_data
from benchmarks.records.atomic_write import replace_file

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = (  # page.js, the last, renders the page
    "elements.js",
    "table.js",
    "charts.js",
    "curves.js",
    "costs.js",
    "errors.js",
    "details.js",
    "page.js",
)


def write_html_report(
    recorded: RecordedPlan, table: AblationTable, path: Path, author_text: AuthorText = NO_AUTHOR_TEXT
) -> Path:
    """Write the interactive report to `path` and return it. The same input always gives the same bytes.

    Args:
        recorded: The rows and their records, with learning curves.
        table: Their table.
        path: The HTML file.
        author_text: What the author adds to the page.

    Raises:
        OSError: If the file cannot be written.
    """
    page = render_page(page_data(recorded, table, author_text))
    replace_file(path, lambda file: file.write_text(page, encoding="utf-8", newline="\n"))
    return path


def render_page(data: dict[str, Any], live: bool = False) -> str:
    """Return the HTML page.

    Args:
        data: What the page shows: see `ablation.report.html.page_data.page_data`. `data["status"]`, if there is one,
            describes trainings that are running.
        live: Whether the page fetches `data.json` periodically, relative to its own address, and updates itself.
    """
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    scripts = page_scripts()
    return environment.get_template("page.html").render(
        data=data,
        shown=[index for index, column in enumerate(data["table"]["columns"]) if column["shown"]],
        json=script_json(data),
        live=live,
        policy=content_security_policy(scripts, live),
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
    )


def page_scripts() -> list[str]:
    """Return the scripts of the page."""
    return [chart_library(), "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)]


def script_json(data: dict[str, Any]) -> str:
    """Return JSON that can be part of a script element: it contains no `<`, `>`, `&` and no letter beyond ASCII."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def content_security_policy(scripts: list[str], live: bool) -> str:
    """Return a policy that allows these scripts and the page's own style and images, and no network.

    A live page may also read from the server that it came from.
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{digest}'" for digest in hashes)
    connections = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {connections}; base-uri 'none'; form-action 'none'"
    )
