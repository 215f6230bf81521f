"""`pip install 'cxr-engine[gpu]'` on a machine without CUDA: nothing falls back in silence, and the doctor says why.

The environment takes about half a minute and 0.5 GB; it skips where no package index has the wheel.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.engines import first_gpu
from runtime.engines.gpu import Bucket, GraphInput, cuda_options, tensorrt_options
from tests.conftest import ROOT
from tests.runtime.handmade import fp32, write_bundle

pytestmark = pytest.mark.slow

MISSING = r"libraries cannot be loaded: lib\w+\.so"


@dataclass(frozen=True)
class Environment:
    """An environment with the extra `gpu` alone, and a bundle beside it."""

    folder: Path
    bundle: Path

    def run(self, *arguments: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
        command = [self.folder / "bin/python", *arguments]
        process = subprocess.run(command, cwd=self.bundle.parent, capture_output=True, text=True, check=False)
        assert process.returncode == expect, f"{process.stdout}\n{process.stderr}"
        return process

    @property
    def packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    if sys.platform != "linux":
        pytest.skip("the libraries' names are those of Linux")
    if first_gpu() is not None:
        pytest.skip("there is a GPU here")
    work = tmp_path_factory.mktemp("gpu")
    # A copy, since building writes into the source folder.
    shutil.copytree(
        ROOT,
        work / "source",
        ignore=shutil.ignore_patterns(".git", ".venv*", ".cache", "demo", "build", "*.egg-info", "__pycache__"),
    )
    folder = work / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*pip, "install", f"{work / 'source'}[gpu]"], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        probe = [*pip, "download", "--no-deps", "--dest", work / "wheels", "onnxruntime-gpu"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            pytest.skip("no package index with onnxruntime-gpu can be reached")
    assert installed.returncode == 0, installed.stderr
    yield Environment(folder, write_bundle(work / "bundle", [fp32()]))
    shutil.rmtree(folder)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_gpu_by_name_raises_and_names_the_missing_library(environment: Environment, provider: str) -> None:
    code = f"""
import re, runtime
try:
    runtime.load("bundle", provider={provider!r})
except runtime.ProviderError as error:
    assert re.search({MISSING!r}, str(error)), error
    print("raised", "onnxruntime-gpu[cuda,cudnn]" in str(error))
"""
    assert environment.run("-c", code).stdout.strip() == "raised True"


def test_auto_takes_the_processor_and_says_so(environment: Environment) -> None:
    code = 'import runtime; e = runtime.load("bundle"); print(e.provider, e.text.encode(["no edema"]).shape, e)'
    out = environment.run("-c", code).stdout
    assert out.startswith("cpu (1, 16) Engine(")
    assert "provider='cpu'" in out


def test_the_doctor_says_what_is_missing(environment: Environment) -> None:
    report = json.loads(environment.run("-m", "runtime", "doctor", "bundle", "--json").stdout)
    assert report["engines"]["cpu"]["runs"] is True
    for name in ("cuda", "tensorrt"):
        assert report["engines"][name]["runs"] is False
        assert "libraries cannot be loaded: lib" in report["engines"][name]["reason"]
    assert any(problem.startswith("cuda is installed but does not run") for problem in report["problems"])
    assert [step["provider"] for step in report["auto"] if step["taken"]] == ["cpu"]
    assert report["bundle"]["provider"] == "cpu"
    assert report["gpu"] is None
    environment.run("-m", "runtime", "doctor")


def test_both_wheels_side_by_side_are_a_conflict(environment: Environment) -> None:
    beside = environment.packages / "onnxruntime-9.9.9.dist-info"
    beside.mkdir()
    try:
        (beside / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 9.9.9\n")
        shown = " ".join(environment.run("-m", "runtime", "doctor").stdout.split())
    finally:
        shutil.rmtree(beside)
    assert "onnxruntime and onnxruntime-gpu are installed side by side" in shown
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu" in shown


def test_engines_for_tensorrt_cannot_be_built_and_it_says_why(environment: Environment) -> None:
    error = environment.run("-m", "export", "tensorrt", "bundle", expect=1).stderr
    assert "TensorRT engines cannot be built here: its libraries cannot be loaded: lib" in error
    assert "Traceback" not in error


def test_the_wheel_knows_every_option(environment: Environment) -> None:
    """A misspelled option would only be found on a machine with a GPU."""
    capi = environment.packages / "onnxruntime/capi"
    inputs = (GraphInput("pixel_values", ("batch", 480, 480)),)
    cuda = cuda_options("fp16")
    tensorrt = tensorrt_options("int8", inputs, Bucket({"batch": (1, 8)}), Path("a"), Path("b"))
    for library, names in {
        "cuda": {*cuda, cuda["arena_extend_strategy"], cuda["cudnn_conv_algo_search"]},
        "tensorrt": set(tensorrt),
    }.items():
        content = (capi / f"libonnxruntime_providers_{library}.so").read_bytes()
        assert [name for name in names if b"\0" + name.encode() + b"\0" not in content] == []
        assert b"\0no_such_option\0" not in content
