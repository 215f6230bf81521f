"""The base install with the `cpu` extra: small, and without the training stack."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, System

pytestmark = pytest.mark.slow

LIMIT_BYTES = 250e6


def test_cpu_install_is_small_and_runs_without_torch(tiny: System, tmp_path: Path) -> None:
    source = tmp_path / "source"
    # A copy, since building writes into the source folder.
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv*", "demo", "build", "*.egg-info", "__pycache__")
    )
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    # Up to Python 3.11 venv brings it beside pip; nothing that is installed here needs it.
    subprocess.run([python, "-m", "pip", "uninstall", "--yes", "setuptools"], capture_output=True, check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{source}[cpu]"]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode:
        probe = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path, "pip"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr
    size = sum(path.lstat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    assert size < LIMIT_BYTES, f"{size / 1e6:.0f} MB"

    code = (
        "import sys, runtime; e = runtime.load(sys.argv[1]); print(e.provider, e.text.encode('x').shape); "
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    ran = subprocess.run([python, "-c", code, tiny.bundle], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "cpu (1, 128)", ran.stderr
    freeze = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.lower()
    assert "onnxruntime" in freeze
    assert not any(f"{name}==" in freeze for name in ("torch", "transformers", "torchvision", "onnx"))
    shell = subprocess.run(
        [python, "-m", "runtime", "embed", tiny.bundle, "--text", "x", "--out", "x.npy"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shell.returncode == 0, shell.stderr
    missing = subprocess.run(
        [python, "-m", "export", "biovil", "--checkpoint", "random", "--out", "b"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pip install 'cxr-engine[export]'" in missing.stderr
