"""serve.json, serve.md and serve.html, and what the command says of wrong arguments."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.serving.report import ServeReport, write_report
from bench.serving.result import SKIPPED, Figure, Result
from bench.serving.scenarios import Scenario
from runtime.commands.command_line import INTERRUPTED
from runtime.errors import InputError
from tests.conftest import System


def report() -> ServeReport:
    figures = [
        Figure("added <median>", 1.25, "ms", 1.5, True, "of 100"),
        Figure("goodput", 0.5, "", 0.9),
        Figure("wrk", math.nan),
    ]
    results = [
        Result("latency", figures, {"requests": 100}, {"served": [0.1, 0.2]}),
        Result("reload", status=SKIPPED, reason="it needs --second"),
    ]
    return ServeReport(
        "2026-01-02T03:04:05Z", "python -m bench serve BUNDLE", {"cores": "2"}, {"numpy": "2"}, {}, results
    )


def test_the_report_holds_figures_goals_and_raw_samples(tmp_path: Path) -> None:
    files = write_report(report(), tmp_path, replace=False)
    assert [file.name for file in files] == ["serve.json", "serve.md", "serve.html"]
    found = json.loads(files[0].read_text())
    assert found["results"][0]["samples"] == {"served": [0.1, 0.2]}
    assert found["results"][0]["figures"][2]["value"] is None
    assert {each["server"] for each in found["published"]} >= {"infinity", "LitServe"}
    for text in (files[1].read_text(), files[2].read_text()):
        assert "1.25 ms" in text
        assert "≤ 1.5 ms" in text
        assert "missed" in text
        assert "it needs --second" in text.replace("\\", "")
        assert "<median>" not in text
        assert "python -m bench serve BUNDLE" in text


def test_a_report_replaces_its_own_kind_and_nothing_else(tmp_path: Path) -> None:
    write_report(report(), tmp_path, replace=False)
    write_report(report(), tmp_path, replace=False)
    (tmp_path / "serve.md").write_text("mine")
    with pytest.raises(InputError, match=r"serve\.md"):
        write_report(report(), tmp_path, replace=False)
    write_report(report(), tmp_path, replace=True)


@pytest.mark.parametrize(("options", "said"), [(["--scenarios", "none"], "scenario"), (["--peers", "tei"], "peer")])
def test_unknown_names_are_listed(tiny: System, options: list[str], said: str, capsys) -> None:
    assert main(["serve", str(tiny.bundle), *options]) == 1
    told = capsys.readouterr().err
    assert f"there is no {said}" in told
    assert "throughput" in told or "litserve-onnxruntime" in told


def test_an_interrupt_writes_what_was_measured(
    tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def interrupted(_: object) -> Result:
        raise KeyboardInterrupt

    def measured(_: object) -> Result:
        return Result("throughput", [Figure("share", 0.95, "", 0.9)])

    table = {
        "throughput": Scenario(measured, "x"),
        "latency": Scenario(interrupted, "x"),
        "floor": Scenario(measured, "x"),
    }
    monkeypatch.setattr("bench.serving.command.SCENARIOS", table)
    assert main(["serve", str(tiny.bundle), "--out", str(tmp_path / "out"), "--provider", "cpu"]) == INTERRUPTED
    found = json.loads((tmp_path / "out" / "serve.json").read_text())["results"]
    assert [each["status"] for each in found] == ["measured", "skipped", "skipped"]
    assert found[0]["figures"][0]["value"] == 0.95
