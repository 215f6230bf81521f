"""What the README tells people to type works."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

import bench.__main__ as bench_cli
import export.__main__ as export_cli
import export.proof.verify as export_verify
import export.tensorrt as export_tensorrt
import export.triton.command as export_triton
import runtime
from export.build import export_bundle
from export.families import FAMILIES
from export.samples import chest_phantom
from tests.conftest import ROOT, System
from tests.export.families.clips import write_clip

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


RUN, SERVE = "python -m runtime", "python -m runtime serve"
COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP in the place of a large one."""
    folder = tmp_path_factory.mktemp("clip")
    export_bundle(FAMILIES["clip"], str(write_clip(folder / "checkpoint")), folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def workplace(tiny: System, tmp_path: Path) -> Path:
    """A folder with the files that the README names."""
    (tmp_path / "bundles").mkdir()
    for name in ("biovil", "biovil-t"):
        (tmp_path / "bundles" / name).symlink_to(tiny.bundle)
    (tmp_path / "keys").write_text("a key\n")
    (tmp_path / "films").mkdir()
    for file in ("chest.png", "films/a.png", "films/b.png"):
        Image.fromarray(chest_phantom(200, 180)).save(tmp_path / file)
    (tmp_path / "reports.csv").write_text("study,report\ns1,No effusion.\n")
    return tmp_path


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 12
    assert blocks("python")


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith(SERVE)])
def test_servers_start_and_stop(workplace: Path, command: str) -> None:
    arguments = [*shlex.split(command, comments=True)[1:], "--port", "0"]
    with subprocess.Popen([sys.executable, *arguments], cwd=workplace, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Serving ")
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def address(tiny: System) -> Iterator[str]:
    """Of a server."""
    command = [sys.executable, *SERVE.split()[1:], str(tiny.bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("curl ")])
def test_requests_are_answered(workplace: Path, address: str, command: str) -> None:
    shutil.copy(get_testdata_file("CT_small.dcm"), workplace / "chest.dcm")
    given = command.replace("http://127.0.0.1:8080", address).replace("curl ", "curl --fail --silent --show-error ")
    asked = subprocess.run(["/bin/sh", "-c", given], cwd=workplace, capture_output=True, check=False)
    assert asked.returncode == 0, asked.stderr
    if ">" in command:
        assert Image.open(workplace / command.split()[-1]).format == "PNG"
    else:
        assert json.loads(asked.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith(RUN) and not each.startswith(SERVE)])
def test_runtime_commands_run(workplace: Path, clip_bundle: Path, command: str) -> None:
    arguments = shlex.split(command)
    (workplace / "bundles" / "biomedclip").symlink_to(clip_bundle)
    if "search" in arguments:
        runtime.build_index(
            runtime.load(workplace / "bundles" / "biovil"), workplace / "films", workplace / "films.index"
        )
    process = subprocess.run(
        [sys.executable, *arguments[1:]], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    if "--out" in arguments:
        assert (workplace / arguments[arguments.index("--out") + 1]).stat().st_size > 0


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python -m export")])
def test_export_commands_are_understood(command: str) -> None:
    """Run with a folder in place of the hub id by test_full_size.py, and from a hub by export/test_hub.py."""
    arguments = shlex.split(command)[3:]
    if arguments[0] == "verify":  # run by export/test_lower.py
        assert export_verify._parser().parse_args(arguments[1:]).bundle
        return
    if arguments[0] == "tensorrt":  # run by export/test_tensorrt.py
        assert export_tensorrt._parser().parse_args(arguments[1:]).bundle
        return
    if arguments[0] == "triton":  # run by export/triton
        assert export_triton._parser().parse_args(arguments[1:]).bundle
        return
    options = export_cli._parser().parse_args(arguments)
    assert options.list or (options.family and options.checkpoint and options.out)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python -m bench")])
def test_bench_commands_are_understood(command: str) -> None:
    """Run by the tests of bench."""
    assert callable(bench_cli.parse(shlex.split(command)[3:]).run)


def test_every_command_is_checked_by_something() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE))
    for command in COMMANDS:
        if command.startswith("make "):
            assert command.split()[1] in targets, command
        elif command.startswith("pip install"):
            assert set(command.split("[")[1].split("]")[0].split(",")) <= extras, command
        else:
            assert command.startswith(("python -m runtime", "python -m export", "python -m bench", "curl ")), command
    for target in re.findall(r"`make (\w+)`", README):
        assert target in targets


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(workplace: Path, code: str) -> None:
    process = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_shapes_in_the_example_are_true(full: System, workplace: Path) -> None:
    """Every line with a shape in its comment is evaluated at full size."""
    import os

    engine = runtime.load(full.bundle)
    lines = re.findall(r"^(engine\.\S.*?)\s+# float32 (\([\d, ]+\))", "\n".join(blocks("python")), flags=re.MULTILINE)
    assert len(lines) == 3
    before = Path.cwd()
    os.chdir(workplace)
    try:
        for line, shape in lines:
            result = eval(line, {"engine": engine})
            assert str(result.shape) == shape, line
    finally:
        os.chdir(before)
