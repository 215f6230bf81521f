"""What bench writes: never an input, a stranger's file only with --force, a link stays a link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.__main__ import main
from bench.loadgen import logs
from bench.pages import page_files
from bench.record import read_report, write_json
from bench.workloads.inputs import write_jpegs
from runtime.errors import InputError
from runtime.files.replaceable import wrote
from tests.bench.a_report import a_report
from tests.conftest import System
from tests.runtime.trees import contents

pytest.importorskip("jinja2", reason="the report's pages need jinja2")
pytest.importorskip("matplotlib", reason="the report's pages need matplotlib")

FILES = ("report.html", "report.md", "plots/texts.svg")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has its figures at once."""

    def measure(request, work, out, progress, replace=True):
        report = a_report(cases=("texts",))
        write_json(report, out / "report.json", replace)
        return report

    monkeypatch.setattr("bench.run.measure", measure)


@pytest.fixture
def again(tmp_path: Path, measured: None) -> dict[str, Callable[..., int]]:
    """Commands that write a report's files to the folder "out"."""
    write_json(a_report(cases=("texts",)), tmp_path / "report.json")
    out = str(tmp_path / "out")
    return {
        "report": lambda *more: main(["report", str(tmp_path / "report.json"), "--out", out, *more]),
        "run": lambda *more: main(["run", "--out", out, *more]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name"), [*((command, name) for command in ("report", "run") for name in FILES), ("run", "report.json")]
)
def test_a_file_of_someone_else_is_replaced_with_force_alone(command, name, again, tmp_path: Path, capsys) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"precious")
    before = contents(tmp_path)
    assert again[command]() == 1
    message = capsys.readouterr().err
    assert f"{file} is there already, and this program did not write it" in message
    assert "--force" in message
    assert contents(tmp_path) == before
    assert again[command]("--force") == 0
    assert wrote(file)
    written = contents(tmp_path)
    assert again[command]() == 0, "what this program wrote is replaced without asking"
    assert contents(tmp_path) == written


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("name", FILES)
def test_the_report_that_is_read_is_never_a_page(name, link, again, tmp_path: Path, capsys) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    link(tmp_path / "report.json", file)
    before = contents(tmp_path)
    for more in ((), ("--force",)):
        assert again["report"](*more) == 1
        assert "would overwrite an input" in capsys.readouterr().err
        assert contents(tmp_path) == before


def test_what_a_run_reads_is_never_its_report(measured, tiny: System, tmp_path: Path, capsys) -> None:
    texts, weights = tmp_path / "report.md", tiny.checkpoint / "config.json"
    texts.write_text("No effusion.\n")
    checkpoint = ["--checkpoint", str(tiny.checkpoint)]
    assert main(["--texts", str(texts), "--out", str(tmp_path), "--force"]) == 1
    assert "would overwrite an input" in capsys.readouterr().err
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").symlink_to(weights)
    before = weights.read_bytes()
    assert main([*checkpoint, "--out", str(out), "--force"]) == 1
    assert "would overwrite an input" in capsys.readouterr().err
    assert main([*checkpoint, "--bundle", str(tiny.bundle), "--out", str(tiny.bundle / "report"), "--force"]) == 1
    assert "which nothing is added to" in capsys.readouterr().err
    assert weights.read_bytes() == before
    assert texts.read_text() == "No effusion.\n"
    assert not (tiny.bundle / "report").exists()


def test_a_link_stays_a_link(again, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "plots").mkdir(parents=True)
    for name in FILES:
        (out / name).symlink_to(tmp_path / f"far-{Path(name).name}")
    for _ in range(2):
        assert again["report"]() == 0
        assert all((out / name).is_symlink() and wrote(out / name) for name in FILES)


def test_plots_of_someone_else_are_not_deleted(tmp_path: Path) -> None:
    """Those of an earlier report that had more cases are."""
    write_json(a_report(cases=("texts",)), tmp_path / "report.json")
    assert main(["report", str(tmp_path / "report.json")]) == 0
    drawn = {name for name, file in page_files(tmp_path).items() if file.is_file()}
    assert "plots/texts.svg" in drawn
    foreign = next(file for name, file in page_files(tmp_path).items() if name not in drawn)
    foreign.write_text("<svg/>")
    write_json(a_report(cases=()), tmp_path / "report.json")
    assert main(["report", str(tmp_path / "report.json"), "--force"]) == 0
    assert not (tmp_path / "plots" / "texts.svg").exists()
    assert foreign.read_text() == "<svg/>"


def test_a_report_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text('{"precious": 1}')
    with pytest.raises(InputError, match="did not write it") as found:
        write_json(a_report(cases=("texts",)), file, replace=False)
    assert file.read_text() == '{"precious": 1}'
    (kept,) = tmp_path.glob("*-report.json")
    assert str(kept) in str(found.value)
    assert read_report(kept).cases
    write_json(a_report(cases=("texts",)), file)
    write_json(a_report(cases=()), file, replace=False)
    assert not read_report(file).cases


def test_what_is_drawn_for_a_run_replaces_no_picture(tmp_path: Path) -> None:
    write_jpegs(tmp_path, 1, 0)
    write_jpegs(tmp_path, 1, 1)
    Image.new("L", (5, 5)).save(tmp_path / "0000.jpg")
    before = (tmp_path / "0000.jpg").read_bytes()
    with pytest.raises(InputError, match="did not write it"):
        write_jpegs(tmp_path, 1, 0)
    assert (tmp_path / "0000.jpg").read_bytes() == before


def test_logs_of_loadgen_replace_none_but_its_own(tmp_path: Path) -> None:
    bundle, folder = tmp_path / "bundle", tmp_path / "logs"
    for each in (bundle, folder / "text-Offline-performance", folder / "text-Server-accuracy", folder / "notes"):
        each.mkdir(parents=True)
    (bundle / "manifest.json").write_text("{}")
    (folder / "text-Offline-performance" / "mlperf_log_detail.txt").write_text(":::MLLOG {}\n")
    (folder / "notes" / "a.txt").write_text("mine")
    logs.check_logs(folder, ["text"], bundle, False)
    (folder / "text-Server-accuracy" / "mlperf_log_trace.json").write_text("mine")
    with pytest.raises(InputError, match="text-Server-accuracy holds files that LoadGen did not write"):
        logs.check_logs(folder, ["text"], bundle, False)
    logs.check_logs(folder, ["image"], bundle, False)
    logs.check_logs(folder, ["text"], bundle, True)
    os.link(bundle / "manifest.json", folder / "text-Server-accuracy" / "mlperf_log_summary.txt")
    with pytest.raises(InputError, match="would overwrite an input"):
        logs.check_logs(folder, ["text"], bundle, True)
    with pytest.raises(InputError, match="which nothing is added to"):
        logs.check_logs(bundle / "logs", ["text"], bundle, True)
