"""Every command's output in any encoding, and with standard streams that are closed, full or read by nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import chest_phantom
from tests.bench.a_report import a_report
from tests.conftest import ROOT, System

pytestmark = pytest.mark.skipif(os.name != "posix", reason="descriptors are closed as POSIX has it")

# Runs commands in one process, each with descriptors 1 and 2 in files of its own.
_DRIVER = """
import importlib, json, os, sys
for number, (module, *arguments) in enumerate(json.loads(sys.argv[1])):
    for descriptor, name in ((1, "out"), (2, "err")):
        opened = os.open(os.path.join(sys.argv[2], f"{number}.{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    try:
        # As Python decodes arguments from the operating system.
        given = [os.fsdecode(each.encode("utf-8", "surrogateescape")) for each in arguments]
        status = importlib.import_module(module + ".__main__").main(given)
    except SystemExit as error:
        status = error.code
    except BaseException as error:
        status = f"{type(error).__name__}: {error}"
    with open(os.path.join(sys.argv[2], f"{number}.status"), "w", encoding="utf-8") as file:
        json.dump(status, file)
"""
ENCODINGS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""},
    "utf-8": {"PYTHONUTF8": "1", "PYTHONIOENCODING": ""},
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its name is no Unicode where names are bytes, and has a character that cp1252 lacks."""
    name = os.fsdecode("ć".encode() + b"\xe9.png") if sys.platform == "linux" else "ćé.png"
    file = tmp_path_factory.mktemp("films") / name
    Image.fromarray(chest_phantom(140, 120, 1)).save(file)
    return file


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bench.record import write_json

    file = tmp_path_factory.mktemp("report") / "report.json"
    write_json(a_report(), file)
    return file


def commands(tiny: System, film: Path, report: Path, folder: Path) -> dict[str, list[str]]:
    """Name → module and arguments, of those that take little time; what writes files writes them to `folder`."""
    bundle, image = str(tiny.bundle), str(film)
    cpu = ["--provider", "cpu"]
    return {
        "embed": ["runtime", "embed", bundle, image, "--out", str(folder / "e.npy"), *cpu],
        "embed a folder": ["runtime", "embed", bundle, image, "--out", str(folder / "parts"), *cpu],
        "ground": ["runtime", "ground", bundle, image, "a ≤ b", "--out", str(folder / "g.png"), *cpu],
        "ground --json": ["runtime", "ground", bundle, image, "a ≤ b", "--out", str(folder / "g.png"), "--json", *cpu],
        "classify": [
            "runtime",
            "classify",
            bundle,
            image,
            "--prompts",
            "pneumonia",
            "--out",
            str(folder / "c.csv"),
            *cpu,
        ],
        "index": ["runtime", "index", bundle, "--text", "an → ć", "--text", "x", "--out", str(folder / "ix"), *cpu],
        "search": ["runtime", "search", bundle, str(folder / "ix"), "--text", "≥ ć", *cpu],
        "search --json": ["runtime", "search", bundle, str(folder / "ix"), "--text", "≥ ć", "--json", *cpu],
        "similarity": ["runtime", "similarity", bundle, image, "ć → d", *cpu],
        "similarity --json": ["runtime", "similarity", bundle, image, "ć → d", "--json", *cpu],
        "fill-mask": ["runtime", "fill-mask", bundle, "ć → [MASK]", *cpu],
        "fill-mask --json": ["runtime", "fill-mask", bundle, "ć → [MASK]", "--json", *cpu],
        "info": ["runtime", "info", bundle],
        "info --json": ["runtime", "info", bundle, "--json"],
        "help": ["runtime", "search", "--help"],
        "an error": ["runtime", "info", str(film.with_name("no → ć"))],
        "wrong usage": ["runtime", "dance → ć"],
        "export --list": ["export", "--list"],
        "export --help": ["export", "--help"],
        "bench compare": ["bench", "compare", str(report), str(report), "--every"],
        "bench compare --json": ["bench", "compare", str(report), str(report), "--json"],
        "bench --help": ["bench", "run", "--help"],
    }


def slow_commands(tiny: System) -> dict[str, list[str]]:
    """Those that compute for seconds."""
    bundle = str(tiny.bundle)
    one = ["--budget", "0.1", "--provider", "cpu", "--part", "text", "--threads", "1"]
    return {
        "tune": ["runtime", "tune", bundle, *one],
        "tune --json": ["runtime", "tune", bundle, *one, "--json"],
        "doctor": ["runtime", "doctor", bundle],
        "doctor --json": ["runtime", "doctor", bundle, "--json"],
        "verify": ["export", "verify", bundle, "--provider", "cpu"],
        "verify --json": ["export", "verify", bundle, "--provider", "cpu", "--json"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ENCODINGS)
def test_every_command_prints_in_any_encoding(
    name: str, tiny: System, film: Path, report: Path, tmp_path: Path
) -> None:
    table = commands(tiny, film, report, tmp_path) | (slow_commands(tiny) if name == "cp1252" else {})
    subprocess.run(
        [sys.executable, "-c", _DRIVER, json.dumps([*table.values()]), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **ENCODINGS[name]},
        check=True,
        timeout=300,
    )
    for number, command in enumerate(table):
        said = (tmp_path / f"{number}.err").read_bytes()
        printed = (tmp_path / f"{number}.out").read_bytes()
        expected = {"an error": 1, "wrong usage": 2}.get(command, 0)
        assert json.loads((tmp_path / f"{number}.status").read_text()) == expected, (command, said)
        assert b"Traceback" not in said, command
        text = printed.decode(name)
        assert bool(text) == (expected == 0), command
        if command.endswith("--json"):
            content = json.loads(printed)  # in UTF-8, which ASCII is as well
            if command == "similarity --json":
                # The very bytes of its name; in ASCII, where Python escapes all others, as Python has it there.
                name_there = os.fsencode(film).decode("ascii", "surrogateescape") if name == "ascii" else str(film)
                assert content["image"] == name_there
                assert content["phrases"] == ["ć → d"]
        else:
            assert name == "utf-8" or "→" not in text
    assert np.load(tmp_path / "e.npy").shape == (1, 128)
    arrow = {"utf-8": "→"}.get(name, "->")
    assert f"1 image embeddings {arrow} " in (tmp_path / "0.out").read_text(encoding=name)


def run(
    arguments: Sequence[str], *, close: Sequence[int] = (), **streams: object
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m …` with some of its standard descriptors closed."""

    def prepare() -> None:
        for descriptor in close:
            os.close(descriptor)

    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, preexec_fn=prepare, check=False, timeout=120, **given
    )


# Commands whose result is a file, and those whose only result is what they print; one of each kind of printing.
WRITES = ("embed", "ground", "index")
PRINTS = ("similarity --json", "info", "help", "export --list", "bench compare")


@pytest.mark.parametrize("command", WRITES)
def test_a_result_in_a_file_needs_no_stream(command: str, tiny: System, film: Path, report: Path, tmp_path: Path):
    arguments = commands(tiny, film, report, tmp_path)[command]
    done = run(arguments, close=(0, 1, 2))
    assert done.returncode == 0
    (written,) = (Path(each) for each in arguments if each.startswith(str(tmp_path)))
    assert written.exists()
    # Nothing that was meant for a stream went into a file that got its number.
    for file in written.parent.rglob("*"):
        assert not file.is_file() or (b"Random weights" not in file.read_bytes() or file.suffix in (".png", ".json"))


@pytest.mark.parametrize("command", PRINTS)
def test_a_result_that_cannot_be_printed_is_an_error(
    command: str, tiny: System, film: Path, report: Path, tmp_path: Path
) -> None:
    done = run(commands(tiny, film, report, tmp_path)[command], close=(1,))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(b"StandardOutputError: The result cannot be written"), done.stderr
    assert b"it is closed" in done.stderr


@pytest.fixture
def full_device() -> Path:
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("there is no /dev/full")
    return device


@pytest.mark.slow
def test_a_full_disk_under_standard_output(
    full_device: Path, tiny: System, film: Path, report: Path, tmp_path: Path
) -> None:
    table = commands(tiny, film, report, tmp_path)
    with full_device.open("wb") as full:
        for command in ("info", "bench compare --json"):
            done = run(table[command], stdout=full)
            assert done.returncode == 1
            (line,) = done.stderr.splitlines()  # no complaint of Python's at its end
            assert line.startswith(b"StandardOutputError: ")
            assert b"No space left on device" in line
        done = run(table["embed"], stdout=full)
        assert done.returncode == 0
        assert "1 image embeddings → " in done.stderr.decode(), "said where it can be said"


def test_a_full_disk_under_standard_error_changes_nothing(
    full_device: Path, tiny: System, film: Path, report: Path, tmp_path: Path
) -> None:
    table = commands(tiny, film, report, tmp_path)
    with full_device.open("wb") as full:
        done = run(table["similarity --json"], stderr=full)
        assert done.returncode == 0
        assert json.loads(done.stdout)["phrases"] == ["ć → d"]
        assert run(table["wrong usage"], stderr=full).returncode == 2


def test_a_reader_that_leaves_is_no_error_to_speak_of(tiny: System, film: Path, report: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run(commands(tiny, film, report, tmp_path)["info"], stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("close", [(), (2,)])
def test_json_is_alone_on_standard_output_whatever_libraries_print(close: Sequence[int], tmp_path: Path) -> None:
    """A library that prints from Python, from C and from a process of its own, before and while a result is printed."""
    code = """
import ctypes, subprocess, sys, warnings
from runtime.commands.command_line import run_command_line
from runtime.process import print_json, print_note
def run():
    print("banner of a library")
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.puts(b"banner in C")
    libc.fflush(None)
    subprocess.run(["echo", "banner of a process"])
    warnings.warn("a warning")
    print_note("a note")
    print_json({"value": float("nan")}, indent=None)
    libc.puts(b"again")
    libc.fflush(None)
sys.exit(run_command_line(run))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = run_script(script, close)
    assert (done.returncode, done.stdout) == (0, b'{"value": null}\n')
    if not close:
        said = done.stderr.decode()
        assert all(each in said for each in ("of a library", "in C", "of a process", "a warning", "a note", "again"))


def run_script(script: Path, close: Sequence[int]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: [os.close(each) for each in close],
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments", [["embed", "-", "--out", "o.npy"], ["fill-mask", "--json-input", "-"]], ids=["embed", "fill-mask"]
)
@pytest.mark.parametrize("state", ["closed", "write-only"])
def test_standard_input_that_cannot_be_read_is_named(
    arguments: list[str], state: str, tiny: System, tmp_path: Path
) -> None:
    command, *rest = (str(tmp_path / each) if each == "o.npy" else each for each in arguments)
    given = ["runtime", command, str(tiny.bundle), *rest]
    if state == "closed":
        done = run(given, close=(0,))
    else:  # as nohup gives it
        with (tmp_path / "sink").open("wb") as sink:
            done = run(given, stdin=sink)
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("InputError: Standard input (-) ")
    assert ("is closed" if state == "closed" else "cannot be read") in last


def test_streams_that_are_none(monkeypatch: pytest.MonkeyPatch, tiny: System, film: Path, tmp_path: Path) -> None:
    """As pythonw has them: the descriptors may be there all the same."""
    from runtime.__main__ import main

    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    out = tmp_path / "e.npy"
    assert main(["embed", str(tiny.bundle), str(film), "--out", str(out)]) == 0
    assert out.exists()
    assert main(["embed", str(tiny.bundle), "-", "--out", str(out)]) == 1
    assert main(["info", str(tiny.bundle)]) == 1
    assert (sys.stdin, sys.stdout, sys.stderr) == (None, None, None)


def test_unexpected_errors_still_show_their_traceback(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from runtime.commands.command_line import run_command_line\nrun_command_line(lambda: 1 / 0)\n")
    done = run_script(script, ())
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"ZeroDivisionError: division by zero"
