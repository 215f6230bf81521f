"""Workers that hang: the parent replaces them. Others: test_processes.py."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from runtime.serve.operation import workers as module
from runtime.serve.operation.peer import Peer
from runtime.serve.operation.turns import Turns
from runtime.serve.operation.workers import Workers
from tests.runtime.serve.operation.fakes import logged


def work(folder: Path, number: int, turns: Turns, control: socket.socket, sockets: Sequence[socket.socket]) -> None:
    """A worker that does nothing but say that it is ready, and that ails where a file says so."""

    async def run() -> None:
        end = asyncio.Event()

        async def nothing(_: object) -> None:
            pass

        async def drain(_: object) -> None:
            end.set()

        async def ails(_: object) -> str:
            told = folder / f"ails-{number}"
            if not told.exists():
                return ""
            told.unlink()
            return "the engine hangs"

        peer = await Peer.open(control, {"go": nothing, "drain": drain, "ails": ails})
        running = asyncio.create_task(peer.run())
        (folder / f"{number}-{os.getpid()}").touch()
        await peer.call("ready", f"worker {number}")
        await end.wait()
        running.cancel()

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.run(run())
    sys.exit(0)


@pytest.mark.parametrize("hangs", ["loop", "engine"])
def test_a_worker_that_hangs_is_replaced(hangs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.1)
    monkeypatch.setattr(module, "_SILENT_SECONDS", 1.0)

    def started() -> dict[int, list[int]]:
        found: dict[int, list[int]] = {0: [], 1: []}
        for each in tmp_path.glob("?-*"):
            number, process = map(int, each.name.split("-"))
            found[number].append(process)
        return found

    async def run() -> int:
        announced: list[str] = []
        workers = Workers(partial(work, tmp_path), 2, [], 5.0)
        running = asyncio.create_task(workers.run(announced.append))
        end = time.monotonic() + 60
        while not announced:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        (first,) = started()[1]
        if hangs == "loop":
            os.kill(first, signal.SIGSTOP)
        else:
            (tmp_path / "ails-1").touch()
        while len(started()[1]) < 2:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert len(started()[0]) == 1, "the other one goes on"
        assert len(announced) == 1
        await asyncio.sleep(0.5)  # until the new one is ready
        workers.stop()
        return await running

    with logged():
        assert asyncio.run(run()) == 0
