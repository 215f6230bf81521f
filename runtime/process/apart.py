"""A question to a Python process of its own: for what might crash, stay in memory, or never come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ask_apart"]


def ask_apart(module: str, arguments: Sequence[str], seconds: float) -> tuple[dict[str, Any] | None, str | None]:
    """Run a module of this package with `python -m` and read the JSON object that it prints last.

    Args:
        module: dotted name.
        arguments: of its command line.
        seconds: after which it is ended.

    Returns:
        What it printed and None; or None and what went wrong.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return None, "there is no Python interpreter to start: this program is frozen or embeds Python"
    # A `runtime` in the working folder is another one; Python 3.10 cannot leave that folder out.
    safe = ["-P"] if sys.version_info >= (3, 11) else []
    package = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    try:
        process = subprocess.run(
            [sys.executable, *safe, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {seconds:g} seconds"
    except OSError as error:
        return None, f"no process could be started: {error}"
    if process.returncode:
        said = process.stderr.strip().splitlines()
        return None, f"its process ended with {process.returncode}{': ' + said[-1] if said else ''}"
    try:
        answer = json.loads(process.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        answer = None
    if not isinstance(answer, dict):
        return None, f"its process printed {process.stdout.strip()[:200]!r}"
    return answer, None
