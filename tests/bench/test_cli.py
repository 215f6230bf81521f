"""The run on the tiny system: one report, whatever goes wrong on the way."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import session
from bench.__main__ import main
from bench.record import FAILED, MEASURED, SKIPPED, Report, read_report, write_json
from bench.workloads.table import WORKLOADS, Size
from tests.bench.a_report import a_report
from tests.conftest import ROOT, System

SMALL = Size(texts=4, batch=2, shapes=((1, 16),), files=1, pixels=(1,), corpus=(1, 3), starts=1, requests=10, images=1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "QUICK", SMALL)


def of(tiny: System, out: Path, *more: str) -> list[str]:
    given = ["--bundle", str(tiny.bundle), "--checkpoint", str(tiny.checkpoint), "--out", str(out)]
    return [*given, "--rounds", "1", "--threads", "1", *more]


def statuses(report: Report, case: str) -> dict[str, str]:
    found = report.case(case)
    assert found is not None
    return {row.contestant: row.status for row in found.rows}


@pytest.mark.slow
def test_a_run_writes_one_report(
    tiny: System, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_PEERS_PYTHON", str(tmp_path / "absent"))
    workloads = "texts,query,corpus,cold-start,memory,manners"
    peers = "onnxruntime,engine-cpu-fp32,fastembed"
    assert main(of(tiny, tmp_path, "--workloads", workloads, "--peers", peers)) == 0
    printed = capsys.readouterr()
    report = read_report(tmp_path / "report.json")
    assert [case.name for case in report.cases] == ["texts", "query", "corpus-1", "corpus-3", "cold-start", "memory"]
    assert report.partial == ""
    texts = statuses(report, "texts")
    assert texts["reference"] == texts["onnxruntime"] == texts["engine-cpu-fp32"] == MEASURED
    assert texts["fastembed"] == FAILED
    assert [manner.opens for manner in report.manners] == [None]
    assert "there is no Python at" in report.manners[0].reason
    assert statuses(report, "corpus-3") == {"engine-cpu-fp32": MEASURED}
    assert statuses(report, "cold-start") == {
        "reference": MEASURED, "onnxruntime": MEASURED, "engine-cpu-fp32": MEASURED,
    }  # fmt: skip
    memory = report.case("memory")
    assert memory is not None
    assert all(30e6 < value < 4e9 for value in memory.rows[0].resident_bytes)
    assert len(memory.rows[0].resident_bytes) == 12
    assert report.model["trained"] is False
    assert report.machine["processor"]
    assert report.versions["torch"]
    assert str(tiny.bundle) not in (tmp_path / "report.json").read_text(), "no folder of this machine"
    content = json.loads((tmp_path / "report.json").read_text())
    assert {each["case"] for each in content["headlines"]} == {"texts", "query", "cold-start"}
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "report.md").is_file()
    assert "An archive of reports" in printed.out
    assert "Report: " in printed.out
    assert "round 1 of 1" in printed.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--workloads", "texts,sounds"], r"no workload 'sounds'; there are: texts, batch, query, .*manners"),
        (["--peers", "abacus"], r"no peer 'abacus'; there are: .*engine.*torch-bf16"),
        (["--peers", "engine-abacus-fp32"], r"no peer 'engine-abacus-fp32'; there are: .*engine-cpu-fp32"),
        (["--texts", "absent.txt"], "absent.txt"),
    ],
)
def test_what_is_not_known_lists_what_is(
    tiny: System, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(of(tiny, tmp_path, *more)) == 1
    assert re.search(message, capsys.readouterr().err)


def test_an_unknown_family_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--family", "sounds", "--out", str(tmp_path)]) == 1
    assert "no family 'sounds'; there are: biovil, " in capsys.readouterr().err


def test_a_bundle_of_other_weights_is_refused(tiny: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundle", str(tiny.bundle), "--out", str(tmp_path)]) == 1
    assert "a bundle needs its checkpoint" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    assert main(["--bundle", str(tiny.bundle), "--checkpoint", str(other), "--out", str(tmp_path)]) == 1
    assert "has no pytorch_model.bin, which the bundle" in capsys.readouterr().err
    for name in ("pytorch_model.bin", "biovil_image_resnet50_proj_size_128.pt"):
        (other / name).write_bytes(b"other")
    assert main(["--bundle", str(tiny.bundle), "--checkpoint", str(other), "--out", str(tmp_path)]) == 1
    assert "its sha256 is another one" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("step", "partial"), [(5, ""), (70, "the time was up (1 minutes)")])
def test_where_time_is_short_the_first_questions_come_first(
    step: int,
    partial: str,
    tiny: System,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look at the clock costs so many seconds."""
    clock = iter(range(0, 100_000, step))
    monkeypatch.setattr(session.time, "monotonic", lambda: float(next(clock)))
    more = ["--workloads", "query,shapes,corpus", "--peers", "engine-cpu-fp32,torch-bf16", "--minutes", "1"]
    assert main(of(tiny, tmp_path, *more)) == 0
    report = read_report(tmp_path / "report.json")
    assert report.partial == partial
    said = capsys.readouterr().out
    assert ("PARTIAL" in said) == bool(partial)
    if not partial:
        assert statuses(report, "query") == {
            "reference": MEASURED, "torch-bf16": SKIPPED, "engine-cpu-fp32": MEASURED,
        }  # fmt: skip
        assert report.not_begun == ["shapes-1x16", "corpus-1", "corpus-3"]
        assert "Cut for time: query: left out: PyTorch eager, bf16" in said
        assert "Cut for time: not begun: shapes-1x16, corpus-1, corpus-3" in said
        assert "Cut for time." in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_an_interrupt_still_writes_what_was_measured(tiny: System, tmp_path: Path) -> None:
    """Ctrl-C goes to the terminal's whole group of processes; the workers are not in it."""
    # A job that a script put into the background ignores SIGINT, and so would what this test starts.
    code = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from bench import session
from bench.__main__ import main
from tests.bench.test_cli import SMALL
session.QUICK = SMALL
sys.exit(main(sys.argv[1:]))
"""
    arguments = of(tiny, tmp_path, "--workloads", "query,shapes,texts", "--peers", "engine-cpu-fp32", "--rounds", "999")
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "round 3 of 999" in line:
                break
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, (said, errors)
    report = read_report(tmp_path / "report.json")
    assert report.partial == "interrupted"
    assert [case.name for case in report.cases] == ["texts"]
    assert 2 <= len(report.cases[0].rows[0].samples) < 900
    assert "PARTIAL: interrupted" in printed
    assert "interrupted" in (tmp_path / "report.md").read_text()
    assert "interrupted" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "argument --rounds: 0; at least 1 is expected"),
        (["--minutes", "0"], "argument --minutes: 0; a number above 0 is expected"),
        (["--threads", "some"], "argument --threads: invalid count value: 'some'"),
        (["sounds"], "invalid choice: 'sounds'"),
        (["quality"], "WHAT"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_names_every_workload_and_peer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*WORKLOADS, "torch-compile", "openvino-int8"))


def test_rows_whose_turn_had_not_come_have_no_status_of_measured(tiny: System) -> None:
    from bench.record import Case, Rate, Row

    case = Case("t", "t", "t", "texts", 1, 1.0, "a", rows=[Row("a", MEASURED, samples=[[1.0]]), Row("b", MEASURED)])
    case.rows.append(Row("c", FAILED, "crashed"))
    case.rates = {"int8": Rate(1.0), "fp32": Rate(1.0, [[1.0]])}
    session._drop_unmeasured(Report("now", "x", cases=[case]))
    assert [row.status for row in case.rows] == [MEASURED, SKIPPED, FAILED]
    assert set(case.rates) == {"fp32"}


@pytest.mark.slow
def test_a_run_of_a_clip_like(clips: Mapping[str, System], tmp_path: Path) -> None:
    more = ("--workloads", "texts,joint,pixels,cold-start,fill-mask", "--peers", "exported-onnxruntime,engine-cpu-fp32")
    assert main(of(clips["clip"], tmp_path, *more)) == 0
    report = read_report(tmp_path / "report.json")
    assert report.contestant("reference").label == "transformers (PyTorch fp32)"
    ran = {"reference": MEASURED, "exported-onnxruntime": MEASURED, "engine-cpu-fp32": MEASURED}
    assert {case.name: statuses(report, case.name) for case in report.cases} == {
        "texts": ran,
        "pixels-1": ran,
        "labels": ran,
        "cold-start": {"reference": MEASURED, "engine-cpu-fp32": MEASURED},
    }


def test_headlines_of_several_reports_are_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for family in ("biovil", "biomedclip"):
        report = a_report(cases=("texts",))
        report.model["family"] = family
        files.append(tmp_path / f"{family}.json")
        write_json(report, files[-1])
    assert not main(["headlines", *map(str, files)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| Family | Question |")
    assert [line.split(" | ")[0] for line in lines if "archive" in line] == ["| biovil"] * 2 + ["| biomedclip"] * 2
    assert main(["headlines", str(tmp_path / "absent.json")]) == 1
