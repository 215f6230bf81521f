"""The micro-benchmarks run, and each asserts its result; no time is looked at here."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


class _Outcomes:
    """A plugin that counts."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.found.append((report.nodeid, report.outcome))


def _run(*arguments: str) -> list[str]:
    """In this process, where torch and the reference are imported already."""
    outcomes = _Outcomes()
    options = ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
    pytest.main([str(ROOT / "bench" / "micro"), *options, *arguments], plugins=[outcomes])
    assert outcomes.found, "nothing was collected"
    return [f"{outcome}: {test}" for test, outcome in outcomes.found]


@pytest.mark.slow
def test_every_micro_benchmark_runs_once() -> None:
    """Without timing; addopts would skip them."""
    found = _run("-o", "addopts=", "-p", "no:cacheprovider", "--benchmark-disable")
    assert [each for each in found if not each.startswith("passed")] == []
    assert len(found) >= 31


@pytest.mark.slow
def test_the_repositorys_options_skip_them() -> None:
    found = _run("-k", "test_pad_32")
    assert [each.split(":")[0] for each in found] == ["skipped", "skipped"]
