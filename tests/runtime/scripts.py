"""Scripts in processes of their own, which are ended should they hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
_SECONDS = 90

# What the scripts share. `forked` runs a function in a forked child and gives what it returns or raises.
_PRELUDE = """
import faulthandler, multiprocessing, os, pickle, sys, threading, time
import numpy as np
import runtime

faulthandler.enable()  # says where it hangs when it is ended

def forked(call, fork=os.fork, leave=os._exit):
    here, there = os.pipe()
    child = fork()
    if child == 0:
        try:
            answer = call()
        except BaseException as error:
            answer = (type(error).__name__, str(error))
        os.write(there, pickle.dumps(answer))
        leave(0)
    os.close(there)
    with os.fdopen(here, "rb") as stream:
        answer = stream.read()
    assert os.waitpid(child, 0)[1] == 0, "the child did not end as it should"
    return pickle.loads(answer)
"""


def run_script(folder: Path, code: str, *arguments: object, cwd: Path | None = None, **environment: str) -> str:
    """Run Python code after what scripts share, and return what it prints.

    The whole process group is ended after a while: nothing outlives the test.
    """
    script = folder / "script.py"
    script.write_text(_PRELUDE + textwrap.dedent(code), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGABRT)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        pytest.fail(f"hangs:\n{out}")
    assert process.returncode == 0, out
    return out
