"""The page in a browser: nothing is fetched, nothing is complained of, all is drawn, and it fits."""

from __future__ import annotations

import os
import re
import shutil
import warnings

import pytest

from bench.pages.plots import PLOTS

pytestmark = pytest.mark.slow

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser():
    """The machine's own Chromium or Chrome; playwright's is not downloaded."""
    executable = os.environ.get("CXR_TEST_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)} is installed, nor is CXR_TEST_BROWSER set")
    with warnings.catch_warnings(), playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(pages):
    return (pages[1] / "report.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the page and afterwards asserts that it was quiet."""
    contexts, requests, complaints = [], [], []

    def opened(width=1200, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert requests == [address] * len(contexts)
    assert complaints == []


def test_all_plots_are_drawn_and_no_letter_is_cut_off(open_page):
    page = open_page()
    for plot in PLOTS:
        drawn = page.locator(f"#plot-{plot.name} svg[role=img]")
        box = drawn.bounding_box()
        assert box["width"] > 300, plot.name
        assert box["height"] > 100, plot.name
        assert drawn.locator("path").count() > 5, plot.name
        assert plot.title in drawn.get_attribute("aria-label")
        outside = drawn.evaluate(
            """svg => {
                const box = svg.getBoundingClientRect();
                const cut = at => at.left < box.left - 1 || at.right > box.right + 1
                    || at.top < box.top - 1 || at.bottom > box.bottom + 1;
                const texts = [...svg.querySelectorAll('text')];
                return texts.filter(text => cut(text.getBoundingClientRect())).map(text => text.textContent);
            }"""
        )
        assert outside == [], plot.name


def test_what_is_drawn_takes_the_colours_of_the_scheme(open_page):
    colours = {}
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        colours[scheme] = [
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            page.evaluate("getComputedStyle(document.body).color"),
            page.evaluate("getComputedStyle(document.querySelector('#plot-texts svg text')).fill"),
        ]
    assert colours["light"][0] == "rgb(255, 255, 255)"
    assert all(light != dark for light, dark in zip(colours["light"], colours["dark"], strict=True))


def _column(page, name, index):
    return page.locator(f"#t-{name} tbody tr").evaluate_all(
        "(rows, at) => rows.map(row => row.cells[at]?.dataset.value ?? null).map(each => each && Number(each))",
        index,
    )


def test_a_table_is_sorted_by_number_both_ways_and_what_has_no_figure_stays_last(open_page):
    page = open_page()
    before = _column(page, "texts", 2)
    head = page.locator("#t-texts thead th").nth(2)
    numbers = sorted(each for each in before if each is not None)
    missing = [None] * before.count(None)
    assert missing
    assert before != numbers[::-1] + missing
    head.locator("button").click()
    assert _column(page, "texts", 2) == numbers[::-1] + missing
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert _column(page, "texts", 2) == numbers + missing
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers != sorted(numbers, key=str)  # or sorting them as text would do
    page.locator("#t-texts thead th button").first.click()
    names = page.locator("#t-texts tbody th b").all_text_contents()
    assert names == page.evaluate("names => [...names].sort((a, b) => a.localeCompare(b))", names)
    assert page.locator("#t-texts [aria-sort]").count() == 1


@pytest.mark.parametrize("width", [320, 375, 768])
def test_a_narrow_screen_needs_no_sideways_scrolling(open_page, width):
    page = open_page(width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#case-texts .scroll").evaluate("box => box.scrollWidth > box.clientWidth")  # it scrolls itself
    assert page.locator("#plot-texts svg").bounding_box()["width"] <= width


def test_the_print_is_on_white_and_has_every_table(open_page):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    printed = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 5
    assert page.locator("details.case:not([open])").count() == 0  # opened for the print


def test_without_scripts_everything_is_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("table.sortable tbody tr").count() > 100
    assert page.locator("svg[role=img]").count() == len(PLOTS)
    closed = page.locator("#case-shapes-1x16")
    assert not closed.locator("table").is_visible()
    closed.locator("> summary").click()
    assert closed.locator("table").is_visible()
