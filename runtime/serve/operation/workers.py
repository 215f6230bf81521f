"""Several processes that serve the same sockets: started, replaced when they end, told to stop, asked for metrics.

The sockets are bound once, before there are workers, and stay open in the parent: a worker that ends takes along what
it was answering, but nothing that waits to be accepted. Workers are started anew, not forked: engines do not survive a
fork.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from runtime.serve.operation.exposition import Family, cumulative, merged
from runtime.serve.operation.logs import log_event
from runtime.serve.operation.peer import Peer, PeerLeft
from runtime.serve.operation.sockets import CONNECTING_SECONDS, let_none_connect
from runtime.serve.operation.turns import Turns

__all__ = ["Workers"]

# A worker that ends within so many seconds of being ready is replaced more and more slowly.
_STEADY_SECONDS = 60.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.2, 30.0
_METRICS_SECONDS = 2.0
_TELLING_SECONDS = 2.0
# How often workers are asked whether they are well, and how long they may be silent.
_WATCH_SECONDS, _SILENT_SECONDS = 5.0, 15.0
# Beyond `drain_seconds`: for workers to close what they have open.
_CLOSING_SECONDS = 10.0
_FAILED = 1


@dataclass
class _Worker:
    """A place for a worker, and the process that has it now."""

    number: int
    process: BaseProcess | None = None
    peer: Peer | None = None
    ready_since: float | None = None
    quick_ends: int = 0
    counted: Sequence[Family] = field(default_factory=list)


class Workers:
    """The parent of workers. Used on the event loop alone."""

    def __init__(
        self,
        target: Callable[[int, Turns, socket.socket, Sequence[socket.socket]], None],
        count: int,
        sockets: Sequence[socket.socket],
        drain_seconds: float,
    ) -> None:
        """Begin, without a worker.

        Args:
            target: run in each process with its number, the turns of all, the socket to talk to this one, and the
                sockets to serve; its process ends with `SystemExit`'s status. It calls "ready" with a text, and answers
                "go", "drain", "reload", "metrics", and "ails" with why only its end helps, or nothing.
            count: workers.
            sockets: bound; closed here when the workers are told to stop.
            drain_seconds: that workers may take to stop.
        """
        self._target = target
        self._sockets = sockets
        self._drain_seconds = drain_seconds
        self._workers = [_Worker(number) for number in range(count)]
        self._turns = Turns(count)
        self._context = multiprocessing.get_context("spawn")
        self._stop = asyncio.Event()
        self._announced = False
        self._failed = False
        self._gone: list[Family] = []
        self._reloading = asyncio.Lock()

    async def run(self, announce: Callable[[str], None]) -> int:
        """Serve until told to stop.

        Args:
            announce: called with the first worker's text when all are ready for the first time.

        Returns:
            The exit status: 0 where every worker finished what it had accepted.
        """
        self._announce = announce
        lives = [asyncio.create_task(self._keep(each)) for each in self._workers]
        await self._stop.wait()
        for each in self._sockets:
            let_none_connect(each)
        await asyncio.sleep(CONNECTING_SECONDS)
        for each in self._sockets:
            each.close()
        await asyncio.gather(*map(self._tell_to_stop, self._workers))
        _, late = await asyncio.wait(lives, timeout=self._drain_seconds + _CLOSING_SECONDS)
        if late:
            self._kill()
        lost = [await each for each in lives]
        return _FAILED if any(lost) or self._failed else 0

    def stop(self) -> None:
        """Let every worker finish what it has accepted; a second call ends them at once."""
        if self._stop.is_set():
            self._failed = True
            self._kill()
        self._stop.set()

    async def reload(self, _: Any = None) -> Mapping[str, str]:
        """Let workers reload, one after the other: memory holds one bundle more, not one for each worker."""
        results: dict[str, str] = {}
        async with self._reloading:
            for each in self._ready():
                try:
                    found = await each.call("reload")
                except PeerLeft:  # its successor opens what is there then
                    continue
                for name, result in (found or {}).items():
                    worse = "failed" in (result, results.get(name))
                    results[name] = "failed" if worse else result
        return results

    async def metrics(self, _: Any = None) -> list[Family]:
        """Those of all workers together; what ended ones have counted stays in."""
        asked = [each for each in self._workers if each.peer is not None and each.ready_since is not None]
        found = await asyncio.gather(
            *(each.peer.call("metrics", None, _METRICS_SECONDS) for each in asked if each.peer is not None),
            return_exceptions=True,
        )
        for worker, part in zip(asked, found, strict=True):
            if isinstance(part, list):
                worker.counted = part
        return merged([self._gone, *(each.counted for each in self._workers)])

    def _ready(self) -> list[Peer]:
        return [each.peer for each in self._workers if each.peer is not None and each.ready_since is not None]

    async def _keep(self, worker: _Worker) -> bool:
        """Start a worker, and another one whenever it ends; whether the last lost something when it was to stop."""
        while not self._stop.is_set():
            status = await self._live(worker)
            if self._stop.is_set():
                return status != 0 and worker.ready_since is not None
            log_event("worker ended", worker=worker.number, status=status)
            if not self._announced:  # what one cannot open, none can
                self._failed = True
                self._stop.set()
                return False
            self._gone = merged([self._gone, cumulative(worker.counted)])
            worker.counted = []
            steady = worker.ready_since is not None and time.monotonic() - worker.ready_since > _STEADY_SECONDS
            worker.quick_ends = 0 if steady else worker.quick_ends + 1
            worker.ready_since = None
            delay = 0.0 if steady else _FIRST_DELAY_SECONDS * 2 ** (worker.quick_ends - 1)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), min(delay, _LONGEST_DELAY_SECONDS))
        return False

    async def _live(self, worker: _Worker) -> int | None:
        """A process's whole life; returns its exit status, minus the signal's number where one ended it."""
        ours, theirs = socket.socketpair()
        process = self._context.Process(
            target=self._target, args=(worker.number, self._turns, theirs, list(self._sockets))
        )
        # Ctrl-C is sent to all processes; what workers do then is said by this one.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
            theirs.close()

        async def ready(text: Any) -> None:
            await self._note_ready(worker, text)

        worker.process = process
        worker.peer = await Peer.open(ours, {"ready": ready, "metrics": self.metrics, "reload": self.reload})
        watching = asyncio.create_task(self._watch(worker, worker.peer, process))
        await worker.peer.run()
        watching.cancel()
        worker.peer = None
        self._turns.leave(worker.number)
        await asyncio.get_running_loop().run_in_executor(None, process.join)
        return process.exitcode

    @staticmethod
    async def _watch(worker: _Worker, peer: Peer, process: BaseProcess) -> None:
        """Kill a worker that answers no more, or whose engine hangs: nothing else frees what it holds."""
        reason = ""
        while not reason:
            await asyncio.sleep(_WATCH_SECONDS)
            if worker.ready_since is None:
                continue
            try:
                reason = await peer.call("ails", None, _SILENT_SECONDS)
            except asyncio.TimeoutError:
                reason = "it does not answer"
            except PeerLeft:
                return
        log_event("worker killed", worker=worker.number, reason=reason)
        process.kill()

    async def _note_ready(self, worker: _Worker, text: str) -> None:
        worker.ready_since = time.monotonic()
        log_event("worker ready", worker=worker.number)
        if not self._announced and all(each.ready_since is not None for each in self._workers):
            self._announced = True
            self._announce(text)
            for peer in self._ready():
                await peer.call("go")
        elif self._announced and worker.peer is not None:
            await worker.peer.call("go")

    async def _tell_to_stop(self, worker: _Worker) -> None:
        if worker.process is None:
            return
        if worker.ready_since is None:  # it has nothing to finish
            worker.process.terminate()
        elif worker.peer is not None:
            with contextlib.suppress(PeerLeft, asyncio.TimeoutError):
                await worker.peer.call("drain", None, _TELLING_SECONDS)

    def _kill(self) -> None:
        for each in self._workers:
            if each.process is not None:
                each.process.kill()
