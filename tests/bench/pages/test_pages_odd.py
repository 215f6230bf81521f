"""Reports that are not whole, odd, or none at all, and what the command says."""

from __future__ import annotations

import argparse
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from bench.errors import PeerError
from bench.pages import command, write_pages
from bench.pages.plots import PLOTS
from bench.record import MEASURED, Fidelity, Report, Row, write_json
from runtime.files.replaceable import COMMENT
from tests.bench.a_page import NUMBER, Page
from tests.bench.a_report import NASTY, a_report

pytest.importorskip("jinja2", reason="the report's pages need jinja2")
pytest.importorskip("matplotlib", reason="the report's pages need matplotlib")


def test_what_was_not_run_is_left_out_with_a_line_that_says_why(tmp_path):
    before = tmp_path / "plots" / "texts.svg"
    before.parent.mkdir()
    before.write_text(f"<svg>{COMMENT}</svg>", encoding="utf-8")
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


@pytest.mark.slow
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
        assert not re.search(NUMBER, re.sub(r"<script>.*?</script>", "", content, flags=re.DOTALL), re.IGNORECASE)


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


@pytest.mark.slow
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
