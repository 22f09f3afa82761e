import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from ablation.analysis.records import RecordedPlan
from ablation.report.html.chart_library import chart_library
from ablation.report.html.page import render_page

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
EMBEDDED = re.compile(r'<script type="application/json" id="page-data">(.*?)</script>', re.DOTALL)


class Elements(HTMLParser):
    """Collects the elements and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    @property
    def policy(self) -> str:
        """The content security policy."""
        metas = [attributes for tag, attributes in self.tags if tag == "meta"]
        return next(str(meta["content"]) for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.texts.append(data)


@pytest.fixture(autouse=True)
def _small_chart_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation.report.html.page.chart_library", lambda: "// charts")


def test_hostile_names_are_text(hostile: RecordedPlan, data_of: Callable[..., dict[str, Any]]) -> None:
    data = data_of(hostile)
    page = render_page(data)
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 3
    assert "img" not in {tag for tag, _ in elements.tags}
    assert {row["label"] for row in data["rows"]} <= set(elements.texts)
    [embedded] = EMBEDDED.findall(page)
    assert not {"<", ">", "&", "\u2028"} & set(embedded)
    assert json.loads(embedded) == json.loads(json.dumps(data))


def test_page_allows_its_own_scripts_and_no_network(
    with_predictions: RecordedPlan, data_of: Callable[..., dict[str, Any]]
) -> None:
    page = render_page(data_of(with_predictions))
    elements = Elements(page)
    policy = elements.policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy
    scripts = SCRIPT.findall(page)
    assert len(scripts) == 2
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert all(not attributes.keys() & {"src", "srcset"} for _, attributes in elements.tags)
    links = [str(attributes["href"]) for _, attributes in elements.tags if "href" in attributes]
    assert all(link.startswith("#") for link in links)


def test_table_needs_no_script(with_predictions: RecordedPlan, data_of: Callable[..., dict[str, Any]]) -> None:
    elements = Elements(render_page(data_of(with_predictions)))
    assert {"+se", "94.00 ± 0.00", "98.00 ± 0.00", "77,754"} <= set(elements.texts)


def test_live_page_reads_from_its_server(
    with_predictions: RecordedPlan, data_of: Callable[..., dict[str, Any]]
) -> None:
    page = render_page(data_of(with_predictions), live=True)
    elements = Elements(page)
    assert "connect-src 'self'" in elements.policy
    [body] = [attributes for tag, attributes in elements.tags if tag == "body"]
    assert "data-live" in body


def test_sections_have_headings_that_exist(
    with_predictions: RecordedPlan, data_of: Callable[..., dict[str, Any]]
) -> None:
    tags = Elements(render_page(data_of(with_predictions))).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes}
    assert named <= set(ids)
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in tags}


def test_chart_library_is_bundled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundles = iter(["bundle"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda: next(bundles))
    assert [chart_library(), chart_library()] == ["bundle", "bundle"]
