"""What more than one test of bench/ needs."""

from __future__ import annotations

import pytest

from tests.bench.a_report import a_report

# Every plot, of few cases.
_CASES = (
    *("texts", "query", "files", "joint", "cold-start", "memory", "shapes-1x16", "shapes-1x64", "shapes-8x16"),
    *("pixels-1", "pixels-4", "corpus-16", "corpus-64", "threads-1", "threads-2"),
)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A made-up report, the folder with its pages, and the files written. Not to be changed."""
    pytest.importorskip("jinja2", reason="the report's pages need jinja2")
    pytest.importorskip("matplotlib", reason="the report's pages need matplotlib")
    from bench.pages import write_pages

    folder = tmp_path_factory.mktemp("pages")
    report = a_report(cases=_CASES, partial="interrupted")
    return report, folder, write_pages(report, folder)
