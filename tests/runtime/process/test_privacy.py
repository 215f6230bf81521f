"""Libraries are imported without what they write and send by themselves, and the program around is left as it was."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, System
from tests.empty_home import Machine

ENGINES = ("onnxruntime", "openvino")
FOLDERS = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MPLCONFIGDIR", "CUDA_CACHE_PATH")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine.make(tmp_path)


def python(machine: Machine, code: str, *arguments: str, **variables: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=machine.out,
        env=machine.environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def _imports(tree: ast.Module) -> set[str]:
    """Libraries that a module's code imports by itself; what is for type checkers alone is not run."""
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(inner) for node in typing for statement in node.body for inner in ast.walk(statement)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_runtime_imports_engines_in_one_place() -> None:
    """An engine imported past it would write and send again."""
    for file in sorted((ROOT / "runtime").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert not _imports(tree) & set(ENGINES), file
        if "matplotlib" in _imports(tree):  # parts of it, once it is there
            assert 'import_private("matplotlib")' in ast.unparse(tree).replace("'", '"'), file


def test_such_an_import_would_be_found() -> None:
    code = (
        "def f():\n    import openvino.opset13\n    from onnxruntime.capi import x\nif TYPE_CHECKING:\n    import faiss"
    )
    assert _imports(ast.parse(code)) == {"openvino", "onnxruntime"}


def test_the_program_around_is_left_as_it_was(machine: Machine, tiny: System) -> None:
    """Also where threads open engines at the same time."""
    pytest.importorskip("openvino")
    code = """
import os, sys, threading
before = dict(os.environ)
import runtime
assert dict(os.environ) == before
def work(provider):
    runtime.load(sys.argv[1], provider=provider, parts=["text"]).text.encode("x")
threads = [threading.Thread(target=work, args=(name,)) for name in ("cpu", "openvino") * 2]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
from runtime.process import import_private
import_private("matplotlib")
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert "openvino_telemetry" not in sys.modules
import openvino
print(openvino.convert_model.__module__)
"""
    assert python(machine, code, str(tiny.bundle)).startswith("openvino.")
    assert machine.left() == set()


@pytest.mark.parametrize("package", ["export", "bench"])
def test_a_process_of_our_own_is_private_for_good(machine: Machine, package: str) -> None:
    """And so are the processes that it starts, which inherit the variables."""
    code = f"""
import os, sys, {package}
print(*(os.environ[name] for name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", *{FOLDERS})), sep="|")
assert "openvino_telemetry" in sys.modules
try:
    import openvino_telemetry
except ImportError:
    print("blocked")
"""
    said, blocked = python(machine, code).splitlines()
    first, second, *folders = said.split("|")
    assert (first, second, blocked) == ("1", "1", "blocked")
    assert all(Path(folder).is_relative_to(machine.root / "cache" / "libraries") for folder in folders)


def test_the_users_variables_are_left(machine: Machine) -> None:
    given = {"ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0", "MPLCONFIGDIR": "/own", "HF_HOME": "/hub"}
    code = "import os, export; print(*(os.environ[name] for name in " + repr(tuple(given)) + "))"
    assert python(machine, code, **given) == "0 0 /own /hub"


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("yes", True), ("0", False), ("off", False), ("", False)])
def test_one_variable_turns_telemetry_on(machine: Machine, value: str, wanted: bool) -> None:
    code = "import os, sys, bench; print('ORT_DISABLE_TELEMETRY' in os.environ, 'openvino_telemetry' in sys.modules)"
    assert python(machine, code, CXR_ENGINE_TELEMETRY=value) == f"{not wanted} {not wanted}"


def test_an_engine_that_the_program_imported_first_records_no_more(machine: Machine) -> None:
    code = """
import os, onnxruntime, runtime.process.privacy as privacy
calls = []
onnxruntime.disable_telemetry_events = lambda: calls.append(1)
assert privacy.import_private("onnxruntime") is privacy.import_private("onnxruntime") is onnxruntime
print(len(calls))
"""
    assert python(machine, code, ORT_DISABLE_TELEMETRY="1") == "1"
    assert python(machine, code, ORT_DISABLE_TELEMETRY="1", CXR_ENGINE_TELEMETRY="1") == "0"


def test_a_sender_that_the_program_imported_is_hidden_and_put_back(machine: Machine) -> None:
    """OpenVINO would otherwise send with it."""
    pytest.importorskip("openvino")
    code = """
import sys, types
sender = sys.modules["openvino_telemetry"] = types.ModuleType("openvino_telemetry")
def sent(*_, **__):
    raise SystemExit("sent")
sender.Telemetry = sent
from runtime.process import import_private
openvino = import_private("openvino")
print(sys.modules["openvino_telemetry"] is sender, openvino.tools.ovc.telemetry_utils.tm.__name__)
"""
    assert python(machine, code) == "True openvino.tools.ovc.telemetry_stub"


def test_the_driver_of_cuda_keeps_its_kernels_here(machine: Machine) -> None:
    """It reads the variable when it starts."""
    code = """
import ctypes, os, runtime.engines.processor as processor
class Driver:
    def cuInit(self, flags):
        print(os.environ["CUDA_CACHE_PATH"])
        return 100  # CUDA_ERROR_NO_DEVICE
ctypes.CDLL = lambda name: Driver()
assert processor.first_gpu() is None
"""
    assert python(machine, code) == str(machine.root / "cache/libraries/cuda")
    assert python(machine, code, CUDA_CACHE_PATH="/own") == "/own"


def test_pictures_follow_the_users_settings_and_fonts_are_listed_here(machine: Machine) -> None:
    pytest.importorskip("matplotlib")
    settings = machine.home / ".config/matplotlib/matplotlibrc"
    settings.parent.mkdir(parents=True)
    settings.write_text("lines.linewidth: 7.5\n")
    # Stands for fontconfig's program, which keeps a cache where its file of settings says.
    program = machine.root / "bin/fc-list"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "--format"\ncat "$FONTCONFIG_FILE" > ../seen\n')
    program.chmod(0o755)
    code = """
import os
from runtime.process import import_private
print(import_private("matplotlib").rcParams["lines.linewidth"], "MPLCONFIGDIR" in os.environ)
"""
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    assert python(machine, code, PATH=path) == "7.5 False"
    libraries = machine.root / "cache/libraries"
    assert list((libraries / "matplotlib").glob("fontlist*"))
    seen = (machine.root / "seen").read_text()
    assert f"<cachedir>{libraries / 'fontconfig'}</cachedir>" in seen
    assert seen.index("<cachedir>") < seen.index("/etc/fonts/fonts.conf")
    assert {path for path in machine.left() if path.is_file()} == {settings}


def test_without_a_cache_the_folder_is_a_passing_one(machine: Machine) -> None:
    """It goes with the process that made it, not with a child that was forked."""
    code = """
import os, sys, export
folder = os.path.dirname(os.environ["MPLCONFIGDIR"])
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(os.path.isdir(folder), folder)
"""
    (machine.root / "cache").write_text("in the way")
    there, folder = python(machine, code).split()
    assert there == "True"
    assert Path(folder).parent == machine.root / "tmp"
    assert machine.left() == set()


def test_where_nothing_can_be_written_libraries_do_as_ever(machine: Machine) -> None:
    code = """
import os, tempfile
def none(**_):
    raise FileNotFoundError("No usable temporary directory found")
tempfile.mkdtemp = none
import export
print("MPLCONFIGDIR" in os.environ, os.environ["ORT_DISABLE_TELEMETRY"])
"""
    (machine.root / "cache").write_text("in the way")
    assert python(machine, code) == "False 1"


def test_wanted_telemetry_without_a_home_says_what_to_do(machine: Machine) -> None:
    """OpenVINO's asks for the home folder while it is imported; installing it anew would change nothing."""
    for distribution in ("openvino", "openvino-telemetry"):
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"{distribution} is not installed")
    code = """
import pathlib
def none():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = staticmethod(none)
from runtime.engines import PROVIDERS, unavailable_reason
print(unavailable_reason(PROVIDERS["openvino"]))
"""
    said = python(machine, code, CXR_ENGINE_TELEMETRY="1")
    assert "set HOME to a folder that is there, or unset CXR_ENGINE_TELEMETRY" in said
    assert "pip" not in said
    assert python(machine, code) == "None"
