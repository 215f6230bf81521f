"""report.html, report.md and the plots: what they say, and that nothing in a report can break them."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from bench.measure import PeerError
from bench.pages import command, write_pages
from bench.pages.bar_figures import roofline, texts
from bench.pages.case_table import case_table
from bench.pages.entries import timed
from bench.pages.fidelity_figure import Point, fidelity, pareto
from bench.pages.formats import bytes_text, number_text, percent_text, plain, ratio_text, seconds_text, shortened
from bench.pages.headline_table import headline_table
from bench.pages.markdown import markdown_table
from bench.pages.plots import PLOTS
from bench.pages.theme import COLOURS, drawing
from bench.record import MEASURED, Fidelity, Report, Row, write_json
from tests.bench.a_report import NASTY, a_report

pytest.importorskip("jinja2", reason="the report's pages need jinja2")
pytest.importorskip("matplotlib", reason="the report's pages need matplotlib")
from matplotlib.text import Text

_NUMBER = r"\b(?:nan|inf(?:inity)?)\b"


class Page(HTMLParser):
    """What a browser makes of the page: elements with their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


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
        assert not re.search(_NUMBER, body, re.IGNORECASE)
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
    assert re.fullmatch(r"[\d.]+×", headline_table(report).lines[0].cells[3].text)
    with drawing("texts"):
        assert not texts(report).axes[0].lines


def test_headlines_give_ratio_interval_and_both_times():
    report = a_report(cases=["texts", "cold-start"])
    table = headline_table(report)
    line = table.lines[0]
    assert line.cells[1].text == "this engine, OpenVINO, int8"
    reference, other = line.cells[3], line.cells[4]
    assert reference.value == pytest.approx(1 / 0.085, rel=0.1)
    low, high = map(float, re.search(r"\((.*?)–(.*?)\)", reference.text).groups())
    assert low <= reference.value <= high
    assert reference.small.startswith("hi-ml-multimodal, ")
    assert other.small.startswith("OpenVINO native bf16, ")
    slower = table.lines[1].cells[4]
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


def test_what_was_not_run_is_left_out_with_a_line_that_says_why(tmp_path):
    before = tmp_path / "plots" / "texts.svg"
    before.parent.mkdir()
    before.write_text("<svg/>", encoding="utf-8")
    empty = Report("2026-01-02T03:04:05+00:00", "python -m bench")
    files = write_pages(empty, tmp_path)
    assert [file.name for file in files] == ["report.html", "report.md"]
    assert not list((tmp_path / "plots").iterdir())  # those of the report before
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.text.count("is left out: ") == len(PLOTS)
    assert "None of the first questions was measured." in page.text
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown.count("Left out: ") == len(PLOTS)
    assert "](plots/" not in markdown


def test_rows_that_all_failed_are_a_reason_and_not_a_plot(tmp_path):
    report = a_report(cases=["texts", "query", "pixels-4", "threads-1"])
    for case in report.cases:
        case.rows = [Row(row.contestant, "failed", "it crashed") for row in case.rows]
    assert [file.name for file in write_pages(report, tmp_path)][:2] == ["report.html", "report.md"]
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "nothing was timed in “texts”" in text
    assert text.count("it crashed") == sum(len(case.rows) for case in report.cases)


@pytest.mark.parametrize("damage", ["no rounds", "one round", "no baseline", "equal", "far apart"])
def test_odd_samples_break_nothing(damage, tmp_path):
    report = a_report(cases=["texts", "query", "shapes-1x16"], rounds=1 if damage == "one round" else 2)
    for case in report.cases:
        for number, row in enumerate(case.rows):
            if row.status != MEASURED:
                continue
            if damage == "no rounds" and case.name != "texts":
                row.samples = []
            elif damage == "no baseline" and row.contestant == case.baseline:
                row.status, row.reason, row.samples = "failed", "killed", []
            elif damage == "equal":
                row.samples, row.fidelity = [[0.5, 0.5]] * 2, Fidelity(1.0000001, 1.0, 0.0)
            elif damage == "far apart":
                row.samples = [[10.0 ** (number - 8)]] * 2
    if damage == "no rounds":
        report.cases.pop(1)  # the headline of a query has no figure without a round
    write_pages(report, tmp_path)
    for file in tmp_path.rglob("*.*"):
        content = file.read_text(encoding="utf-8")
        assert not re.search(_NUMBER, re.sub(r"<script>.*?</script>", "", content, flags=re.DOTALL), re.IGNORECASE)


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


def test_a_nasty_label_can_be_drawn_and_a_nasty_command_told(tmp_path):
    report = a_report(cases=["texts"])
    report.contestants[1] = report.contestants[1].__class__("torch-fp32", NASTY, "peer")
    report.command = "python -m bench --texts '```<b>'"
    report.machine["<i>"] = "</main>"
    write_pages(report, tmp_path)
    drawn = "".join(ElementTree.parse(tmp_path / "plots" / "texts.svg").getroot().itertext())
    assert "<script>alert('x')</script> & \"quoted\"" in drawn
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert report.command in page.text
    assert sum(tag == "main" for tag, _ in page.elements) == 1
    assert "\n``````sh\n" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("trained", "partial"), [(True, ""), (False, "the time was up")])
def test_what_has_to_be_known_first_is_said_first(trained, partial, tmp_path):
    write_pages(a_report(cases=[], trained=trained, partial=partial), tmp_path)
    for name in ("report.html", "report.md"):
        content = (tmp_path / name).read_text(encoding="utf-8")
        before = content[: content.index("How many times as fast")]
        assert ("Random weights." in before) is not trained
        assert ("the time was up" in before) is bool(partial)
        assert "2 January 2026, 03:04 UTC" in before
        assert "a made-up processor" in before


def test_the_command_writes_the_pages_of_a_json_again(tmp_path, capsys):
    report = a_report(cases=["query"])
    write_pages(report, tmp_path)
    write_json(report, tmp_path / "report.json")
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    command.run(parser.parse_args([str(tmp_path / "report.json"), "--out", str(tmp_path / "new" / "folder")]))
    assert (tmp_path / "new/folder/report.html").read_bytes() == (tmp_path / "report.html").read_bytes()
    assert str(tmp_path / "new/folder/report.html") in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"schema_version": 99})])
def test_the_command_refuses_what_is_no_report(content, tmp_path):
    file = tmp_path / "other.json"
    file.write_text(content, encoding="utf-8")
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    with pytest.raises(PeerError, match=r"other\.json"):
        command.run(parser.parse_args([str(file)]))
    assert [each.name for each in tmp_path.iterdir()] == ["other.json"]


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_what_installs_it(module, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(PeerError, match=rf"{module} is not installed.*pip install"):
        write_pages(a_report(cases=[]), tmp_path)
    assert not list(tmp_path.iterdir())
