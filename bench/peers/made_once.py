"""What peers need made of a checkpoint, such as an export: made once for all of them, in a process of its own.

What an export leaves in memory is then not the peer's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bench.errors import PeerError
from bench.peers.contract import Spec

__all__ = ["made_once"]

_SAID = 800


def made_once(spec: Spec, what: str, module: str, python: str = "") -> Path:
    """The folder with what a peer needs; whoever comes first makes it, the others wait.

    Args:
        spec: "checkpoint", "bundle", "made" (a folder for these weights) and "python", an interpreter with PyTorch.
        what: name of the folder.
        module: run as `python -m module WHAT CHECKPOINT BUNDLE FOLDER`, it fills the folder. What it needs made before
            lies beside the folder.
        python: another interpreter than that of `spec`.

    Raises:
        PeerError: it cannot be made.
    """
    import fcntl  # of no use to those who only list peers, and not there on Windows

    place = Path(spec["made"])
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / what).is_dir():
            _make(spec, what, module, python or spec["python"])
    return place / what


def _make(spec: Spec, what: str, module: str, python: str) -> None:
    place = Path(spec["made"])
    begun = place / f"{what}.begun"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    command = [python, "-m", module, what, spec["checkpoint"], spec["bundle"], str(begun)]
    # A quantization that finds its data on this disk need not ask the hub.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", env=environment, check=False
    )
    if done.returncode != 0:
        raise PeerError(f"'{what}' cannot be made of {spec['checkpoint']}: {done.stderr.strip()[-_SAID:]}")
    begun.rename(place / what)
