"""Test the HTML report in a browser. These tests are skipped without Chromium or without the package playwright."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ablation.analysis.records import RecordedPlan
from ablation.report.author_text import parse_markdown
from ablation.report.html.page import render_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHARTS = "#curves-chart svg, #costs-chart svg, #confusions-chart svg"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses to run as root
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if is_root else [])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser", tmp_path: Path) -> Iterator[Callable[..., "Page"]]:
    """Return a function that opens a page with this data. At the end, there must be no error and no request."""
    problems: list[str] = []

    def open_data(data: dict[str, Any], **context: Any) -> "Page":
        file = tmp_path / "page.html"
        file.write_text(render_page(data), encoding="utf-8", newline="\n")
        page = browser.new_context(**context).new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto(file.as_uri())
        page.wait_for_function(f"document.querySelectorAll('{CHARTS}').length === 3")
        return page

    yield open_data
    for context in browser.contexts:
        context.close()
    assert problems == []


@pytest.fixture
def data(with_predictions: RecordedPlan, data_of: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return data_of(with_predictions)


def column(page: "Page", index: int) -> list[str]:
    return page.locator(f"#rows tbody tr > :nth-child({index})").all_inner_texts()


def test_columns_sort_with_missing_values_last(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data)
    page.click("#rows button:has-text('top-1 %')")
    assert page.get_attribute("#rows th:has(button:has-text('top-1 %'))", "aria-sort") == "descending"
    assert column(page, 1) == ["2", "1"]
    assert page.evaluate("document.activeElement.id") == "sort-top-1 %"
    page.keyboard.press("Enter")
    assert column(page, 1) == ["1", "2"]
    assert "ascending" in page.inner_text("#announcement")
    for _ in range(2):  # only row 2 has a change
        page.click("#rows button:has-text('change')")
        assert column(page, 1) == ["2", "1"]


def test_columns_can_be_chosen(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data)
    page.click("#columns-summary")
    page.uncheck("#column-MACs")
    page.check("[id='column-P(better)']")
    titles = page.locator("#rows thead button").all_inner_texts()
    assert "MACs" not in titles
    assert "P(better)" in titles


def test_number_leads_to_its_runs(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data)
    page.focus("#rows a[href='#run-2'][aria-label*='top-1']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#run-2[open] table")
    assert page.evaluate("document.activeElement.id") == "run-2-summary"
    assert data["runs"]["rows"][1]["runs"][0][-1] in page.inner_text("#run-2")


def test_charts_show_values_at_the_pointer(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data)
    page.locator("#costs-chart .mark-symbol path").nth(1).hover()
    assert page.inner_text("#tooltip").split("\n")[::2] == ["2 +se", "top-1 %: 98.00"]
    page.locator("#curves-chart svg").hover()
    page.wait_for_function("document.getElementById('tooltip')?.textContent.includes('epoch: ')")


def test_rows_can_be_chosen_in_every_section(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data)
    page.uncheck("#draw-0")
    page.wait_for_function("document.querySelectorAll('#costs-chart .mark-symbol path').length === 1")
    page.select_option("#class-before", label="2 +se")
    page.select_option("#class-after", label="1 baseline")
    assert page.locator("#classes-body tbody tr").first.inner_text().split()[:4] == ["0", "80.00", "40.00", "-40.00"]
    page.select_option("#confusion-row", label="1 baseline")
    assert "1 baseline" in page.inner_text("#confusions-caption")
    page.select_option("#image-before", label="2 +se")
    assert page.locator("#images-body h3").all_inner_texts() == ["Fixed: 0 images", "Broken: 2 images"]
    assert page.locator("#images-body img").first.evaluate("image => image.naturalWidth") == 8


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_names_are_text_and_stay_inside_the_page(
    width: int, hostile: RecordedPlan, data_of: Callable[..., dict[str, Any]], open_page: Callable[..., "Page"]
) -> None:
    data = data_of(hostile)
    data["rows"][0] |= {"name": "w" * 60, "label": "w" * 600}
    data["title"] = "t" * 600
    page = open_page(data, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#rows tbody th").nth(1).inner_text() == "</script><script>alert(2)</script>"
    page.click("#run-1-summary")
    page.wait_for_selector("#run-1 table")
    assert "<b>cpu</b>" in page.inner_text("#run-1")


def test_text_of_the_author_is_formatted(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    text = (
        "We propose **SE** and <b>CBAM</b>.\n\n1. [paper](https://example.org)\n2. `code`\n\n[bad](javascript:alert(1))"
    )
    page = open_page({**data, "text": list(parse_markdown(text))})
    assert page.inner_text("#text strong") == "SE"
    assert "<b>CBAM</b>" in page.inner_text("#text p >> nth=0")
    assert page.locator("#text ol > li").count() == 2
    links = page.locator("#text a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert links == ["https://example.org"]


def test_colors_follow_the_system_and_the_button(open_page: Callable[..., "Page"], data: dict[str, Any]) -> None:
    page = open_page(data, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")
    light = page.evaluate(background)
    assert (dark, light) == ("rgb(20, 23, 26)", "rgb(255, 255, 255)")
    page.click("#theme")
    assert page.evaluate(background) == dark
    page.emulate_media(media="print")
    assert page.evaluate(background) == light
    assert not page.is_visible("#theme")


def test_table_is_shown_without_scripts(browser: "Browser", data: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(render_page(data), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "98.00 ± 0.00" in page.inner_text("#rows")
    context.close()


def test_live_page_keeps_the_choices_of_the_reader(browser: "Browser", data: dict[str, Any]) -> None:
    status = {"running": [], "failed": [], "done": 3, "total": 4, "eta_seconds": None}
    answers = {"value": {**data, "status": status}}
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    content = render_page(answers["value"], live=True)
    page.route("http://report/", lambda route: route.fulfill(body=content, content_type="text/html"))
    page.route("http://report/data.json", lambda route: route.fulfill(body=json.dumps(answers["value"])))
    page.goto("http://report/")
    assert "3 of 4" in page.inner_text("#status-summary")
    page.click("#rows button:has-text('top-1 %')")
    page.click("#run-1-summary")
    page.focus("#metric")
    running = {"run": "+se <b>seed 1</b>", "epoch": 2, "epochs": 30, "eta_seconds": 90}
    failed = {"run": "+cbam seed 0", "reason": "out of memory"}
    answers["value"] = {**data, "status": {**status, "done": 4, "running": [running], "failed": [failed]}}
    page.clock.fast_forward(10_000)
    page.wait_for_selector("#status-body progress")
    assert "4 of 4" in page.inner_text("#status-summary")
    assert "+se <b>seed 1</b>" in page.inner_text("#status-body")
    assert "out of memory" in page.inner_text("#status-body")
    assert column(page, 1) == ["2", "1"]
    assert page.locator("#run-1[open]").count() == 1
    assert page.evaluate("document.activeElement.id") == "metric"
    context.close()
