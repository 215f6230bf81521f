"""report.html, report.md and the plots: what they say, and that nothing in a report can break them."""

from __future__ import annotations

import itertools
import re
import statistics
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from bench.pages import write_pages
from bench.pages.bar_figures import roofline, texts
from bench.pages.case_table import case_table
from bench.pages.entries import timed
from bench.pages.fidelity_figure import Point, fidelity, pareto
from bench.pages.formats import bytes_text, number_text, percent_text, plain, ratio_text, seconds_text, shortened
from bench.pages.headline_table import headline_table
from bench.pages.markdown import markdown_table
from bench.pages.plots import PLOTS
from bench.pages.theme import COLOURS, drawing
from bench.record import MEASURED, Fidelity
from tests.bench.a_page import NUMBER, Page
from tests.bench.a_report import NASTY, a_report

pytest.importorskip("jinja2", reason="the report's pages need jinja2")
pytest.importorskip("matplotlib", reason="the report's pages need matplotlib")
from matplotlib.text import Text


@pytest.fixture(scope="module")
def page(pages):
    return Page((pages[1] / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (number_text(0.0), "0"),
        (number_text(9.996), "10.0"),
        (number_text(0.09996), "0.100"),
        (number_text(1234.5), "1,234"),
        (number_text(1_234_567.0), "1,234,567"),
        (number_text(float("nan")), "–"),
        (ratio_text(9.924), "9.92×"),
        (seconds_text(0.000_812), "812 µs"),
        (seconds_text(0.0123), "12.3 ms"),
        (seconds_text(1.5), "1.50 s"),
        (seconds_text(1234.0), "1,234 s"),
        (bytes_text(176e6), "176 MB"),
        (bytes_text(1.247e9), "1.25 GB"),
        (percent_text(0.0432), "4.3 %"),
        (percent_text(1.17), "117 %"),
        (plain("\x1b[31mred\x1b[0m\r\nnext\x00\ud800"), "red\nnext"),
        (shortened("a  b\nc" + "d" * 90, 10), "a b cdddd…"),
    ],
)
def test_numbers_are_written_as_people_do(made, expected):
    assert made.replace("\u00a0", " ") == expected


def test_every_plot_is_a_file_and_in_the_page(pages, page):
    _, folder, files = pages
    plots = {f"plots/{plot.name}.svg" for plot in PLOTS}
    assert {str(file.relative_to(folder)) for file in files} == {"report.html", "report.md", *plots}
    assert sorted(file for file in folder.rglob("*") if file.is_file()) == sorted(files)  # nothing half-written is left
    assert sum(tag == "svg" and attributes["role"] == "img" for tag, attributes in page.elements) == len(PLOTS)
    assert "left out" not in page.text
    linked = re.findall(r"!\[.*?\]\((.*?)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert set(linked) == plots


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes(pages, tmp_path):
    report, folder, files = pages
    for again in write_pages(report, tmp_path):
        assert again.read_bytes() == (folder / again.relative_to(tmp_path)).read_bytes(), again.name
    assert len(files) == len(PLOTS) + 2


def test_nothing_of_the_page_lies_elsewhere(pages, page):
    _, folder, _ = pages
    policy = next(attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes)
    assert "default-src 'none'" in policy
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    content = (folder / "report.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\"' )]+", content))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, which nobody fetches
    assert "@import" not in content


def test_identifiers_are_unique_and_what_is_referred_to_is_there(pages, page):
    ids = page.ids()
    assert len(ids) == len(set(ids))
    content = (pages[1] / "report.html").read_text(encoding="utf-8")
    referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', content))
    assert {one or other for one, other in referred} <= set(ids)
    assert len(referred) > 20


def test_plots_are_well_formed_keep_their_text_and_take_every_colour_from_the_scheme(pages):
    report, folder, _ = pages
    for file in (folder / "plots").iterdir():
        content = file.read_text(encoding="utf-8")
        root = ElementTree.fromstring(content)
        body = content[content.index("</style>") :]
        assert not re.search(r"#[0-9a-f]{6}\b|(?:fill|stroke): (?!none|var)", body), file.name
        assert all(each.drawn not in content for each in COLOURS.values())
        assert "prefers-color-scheme: dark" in content
        assert root.findall(".//{*}text"), file.name
        assert root.find("{*}metadata") is None
        assert not re.search(NUMBER, body, re.IGNORECASE)
    drawn = "".join(ElementTree.parse(folder / "plots" / "texts.svg").getroot().itertext())
    for entry in timed(report, report.case("texts")):
        assert entry.contestant.label in drawn


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_read_on_the_paper(scheme):
    def luminance(colour):
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    paper = luminance(getattr(COLOURS["paper"], scheme))
    for name, least in {"ink": 7, "muted": 4.5, "engine": 4.5, "reference": 4.5, "peer": 2.5, "option": 2}.items():
        low, high = sorted((paper, luminance(getattr(COLOURS[name], scheme))))
        assert (high + 0.05) / (low + 0.05) >= least, name  # WCAG 2.2, 1.4.3; of what is only drawn less


def test_figures_of_a_case_are_those_of_its_samples():
    report = a_report(cases=["query"])
    case = report.case("query")
    table = case_table(report, case)
    titles = [column.title for column in table.columns]
    baseline = [statistics.median(each) for each in case.rows[0].samples]
    for row, line in zip(case.rows, table.lines, strict=True):
        if row.status != MEASURED:
            continue
        cells = dict(zip(titles, line.cells, strict=True))
        medians = [statistics.median(each) for each in row.samples]
        passes = sorted(itertools.chain(*row.samples))
        assert cells["Median"].value == pytest.approx(statistics.median(medians))
        assert cells["p90"].value == passes[180]  # of 200: 179 intervals below lie at 89.9 %
        assert cells["p99"].value == passes[198]
        assert cells["texts/s"].value == pytest.approx(1 / statistics.median(medians))
        ratio = statistics.median(one / other for one, other in zip(baseline, medians, strict=True))
        assert cells["Times as fast"].value == pytest.approx(ratio)
        rate = case.rates[next(each.precision for each in report.contestants if each.name == row.contestant)]
        attained = [rate.operations / each[0] for each in rate.samples]
        shares = [case.operations / one / other for one, other in zip(medians, attained, strict=True)]
        assert cells["Of the limit"].value == pytest.approx(statistics.median(shares))
        if row.fidelity:
            assert cells["Least cosine"].value == row.fidelity.min_cosine


def test_a_row_without_a_time_has_its_status_and_reason_and_no_figure(pages, page):
    report, _, _ = pages
    case = report.case("texts")
    lines = case_table(report, case).lines
    for row, line in zip(case.rows, lines, strict=True):
        if row.status == MEASURED:
            continue
        *_, last = line.cells
        assert last.rest
        assert last.tag == row.status
        assert last.small.startswith(plain(row.reason).strip())
        assert all(cell.value is None for cell in line.cells)
    assert "mean cosine 0.91231, least 0.42000" in page.text  # how wrong it was


def test_one_pass_has_no_interval():
    report = a_report(cases=["texts"], rounds=1)
    for row in report.cases[0].rows:
        row.samples = row.samples[:1]
    cells = case_table(report, report.cases[0]).lines[1].cells
    assert cells[2].small == "one pass"
    assert cells[5].small == ""
    assert cells[6].small == ""
    assert re.fullmatch(r"[\d.]+×", headline_table(report).lines[0].cells[4].text)
    with drawing("texts"):
        assert not texts(report).axes[0].lines


def test_headlines_give_ratio_interval_and_both_times():
    report = a_report(cases=["texts", "cold-start"])
    table = headline_table(report)
    line = table.lines[0]
    assert line.cells[1].text == "this engine, OpenVINO, int8"
    reference, other, on_ours = line.cells[4:7]
    assert reference.value == pytest.approx(1 / 0.085, rel=0.1)
    low, high = map(float, re.search(r"\((.*?)–(.*?)\)", reference.text).groups())
    assert low <= reference.value <= high
    assert reference.small.startswith("hi-ml-multimodal, ")
    assert other.small.startswith("PyTorch bf16, sorted by length, ")
    assert on_ours.small.startswith("OpenVINO native bf16, ")
    slower = headline_table(a_report(cases=["texts"], slower=2.0)).lines[1].cells[6]
    assert slower.value < 1
    assert slower.tone == ""  # only what is faster is shown as good
    assert markdown_table(table).count("\n| ") == len(table.lines)


def test_bars_are_as_long_as_the_figures_and_sorted():
    report = a_report(cases=["texts"])
    with drawing("texts"):
        axes = texts(report).axes[0]
    case = report.case("texts")
    rates = [
        256 / statistics.median(statistics.median(each) for each in row.samples)
        for row in case.rows
        if row.status == MEASURED
    ]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(sorted(rates, reverse=True))
    assert axes.get_xlim()[0] == 0
    with drawing("roofline"):
        assert roofline(report).axes[0].get_xlim()[1] >= 100


def test_the_front_is_what_no_other_beats_in_both():
    rng = np.random.default_rng(0)
    points = [Point(str(number), "peer", "fp32", *rng.integers(1, 9, 2).astype(float)) for number in range(40)]
    front = pareto(points)
    for point in points:
        beaten = any(
            (other.error, other.rate) != (point.error, point.rate)
            for other in points
            if other.error <= point.error and other.rate >= point.rate
        )
        assert beaten != ((point.error, point.rate) in {(each.error, each.rate) for each in front})


def test_names_beside_points_touch_no_other_and_those_of_this_engine_are_there():
    report = a_report(cases=["texts"])
    with drawing("fidelity"):
        axes = fidelity(report).axes[0]
    named = {text.get_text(): text for text in axes.texts if text.get_text()}
    labels = {each.name: each.label for each in report.contestants}
    shown = {labels[row.contestant] for row in report.case("texts").rows if row.status == MEASURED}
    assert {label for label in shown if label.startswith("this engine")} | {"hi-ml-multimodal"} <= set(named) <= shown
    boxes = [Text.get_window_extent(text) for text in named.values()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("error", [0.0, 3e-4, 1.2e-3, 0.4])
def test_no_number_of_the_fidelity_axis_is_cut_off(error):
    report = a_report(cases=["texts"])
    for row in report.cases[0].rows:
        row.fidelity = row.fidelity and Fidelity(1 - error, 1 - error, error)
    with drawing("fidelity"):
        figure = fidelity(report)
        figure.canvas.draw()
        for text in figure.axes[0].get_xticklabels():
            box = text.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.width


def test_markup_in_labels_and_reasons_stays_text(page, pages):
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert plain(NASTY).strip() in page.text  # a reason whole, with its lines
    assert "{{ 7 * 7 }}" in page.text
    assert "\x1b" not in page.text
    markdown = (pages[1] / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    assert max(map(len, re.findall(r"^\|.*", markdown, re.MULTILINE))) < 1200  # a log is cut
    for block in re.split(r"\n\n+", markdown):
        if block.startswith("| "):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block[:80]
