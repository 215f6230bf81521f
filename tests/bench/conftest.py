"""What more than one test of bench/ needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.bench.a_report import a_report
from tests.conftest import System

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


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, System]:
    """Small CLIP-likes in the layouts of transformers ("clip") and open_clip ("biomedclip"), with their bundles."""
    from export.build import export_bundle
    from export.families import FAMILIES
    from tests.export.families.clips import write_biomedclip, write_clip

    writers: Mapping[str, Callable[[Path], Path]] = {"clip": write_clip, "biomedclip": write_biomedclip}
    found = {}
    for name, write in writers.items():
        folder = tmp_path_factory.mktemp(name)
        found[name] = System(write(folder / "checkpoint"), folder / "bundle")
        export_bundle(FAMILIES[name], str(found[name].checkpoint), found[name].bundle)
    return found
