"""A real Triton on the loopback address: nvidia-pytriton's, from the environment that `make test` sets up."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

__all__ = ["ENVIRONMENT", "Address", "options", "serving", "why_not"]

ENVIRONMENT = Path(os.environ.get("CXR_TRITON_ENV", ROOT / ".venv-triton"))
_READY_SECONDS = 60


def _site() -> Path:
    return Path(next(iter(ENVIRONMENT.glob("lib/python3.*/site-packages")), ENVIRONMENT / "none"))


def _version() -> str:
    """Of the environment's Python, as its stub is named."""
    return _site().parent.name.removeprefix("python")


def _triton() -> Path:
    return _site() / "pytriton" / "tritonserver"


def _stub() -> Path:
    return _triton() / "python_backend_stubs" / _version() / "triton_python_backend_stub"


def _libraries() -> str:
    """Triton's own, and the directory of the Python that made the environment, whose library the stub loads."""
    return os.pathsep.join([str(_site() / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))])


def why_not() -> str | None:
    """Why Triton cannot be started here, or None."""
    if not sys.platform.startswith("linux"):
        return "Triton's wheel is for Linux"
    if not (_triton() / "bin" / "tritonserver").is_file():
        return f"there is no Triton in {ENVIRONMENT} (make triton)"
    if not _stub().is_file():
        return f"Triton has no stub for Python {_version()}"
    loaded = subprocess.run(
        [_stub()], env={"LD_LIBRARY_PATH": _libraries()}, capture_output=True, text=True, timeout=30, check=False
    )
    if "error while loading shared libraries" in loaded.stderr or "GLIBC" in loaded.stderr:
        return f"Triton's stub does not load: {loaded.stderr.strip()}"
    return None


def options() -> set[str]:
    """Those that the server says it knows."""
    command = [_triton() / "bin" / "tritonserver", "--help"]
    shown = subprocess.run(
        command, env={"LD_LIBRARY_PATH": _libraries()}, capture_output=True, text=True, timeout=30, check=False
    )
    return set(re.findall(r"^\s*(--[a-z-]+)", shown.stdout + shown.stderr, flags=re.MULTILINE))


@dataclass(frozen=True)
class Address:
    """Where a server listens, and its log."""

    http: str
    grpc: str
    log: Path


@contextmanager
def serving(repositories: Sequence[Path], work: Path) -> Iterator[Address]:
    """Serve folders of models until the end of the block.

    The package is found in the models' folders, which Triton adds to the path: the environment has what it depends on,
    and this checkout is what is tested.

    Args:
        repositories: written by `python -m export triton`.
        work: an empty folder.

    Yields:
        Where it listens.
    """
    backend = work / "backends" / "python"
    backend.mkdir(parents=True)
    for each in [_stub(), *(_triton() / "backends" / "python").iterdir()]:
        if each.is_file():
            shutil.copy(each, backend)
    for folder in repositories:
        for model in (folder / "models").iterdir():
            (model / "runtime").symlink_to(ROOT / "runtime")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc_port = one.getsockname()[1], other.getsockname()[1]
    log = work / "log.txt"
    command = [
        str(_triton() / "bin" / "tritonserver"),
        *(f"--model-repository={folder / 'models'}" for folder in repositories),
        f"--backend-directory={work / 'backends'}",
        # Of this process alone: other servers on the machine have regions of theirs.
        f"--backend-config=python,shm-region-prefix-name=cxr-tests-{os.getpid()}-{port}",
        "--disable-auto-complete-config",
        "--model-control-mode=none",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
    ]
    environment = {
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": _libraries(),
        "HOME": str(work),
        "CXR_ENGINE_CACHE": str(work / "cache"),
    }
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        _wait(process, port, log)
        yield Address(f"127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it is ready; models are warmed up before."""
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if b" 200 " in connection.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"Triton is not ready:\n{log.read_text(encoding='utf-8', errors='replace')}")
