"""From ready to the end: signals, reload, draining."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from runtime.errors import CxrEngineError
from runtime.serve.models.contract import ServedModels
from runtime.serve.operation.http_server import HttpServer
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.logs import log_event, log_failure
from runtime.serve.server_state import Server

__all__ = ["DRAINED", "LOST", "Lifecycle", "close_models", "signals"]

# Exit statuses.
DRAINED, LOST = 0, 1
# Until what was refused at the end of draining is written to its clients; and until the engines' threads end.
_LAST_WORDS_SECONDS = 0.5
_CLOSING_SECONDS = 5.0
_POLL_SECONDS = 0.05
_STOPPING = "the server stops"


class Lifecycle:
    """A server in one process. Used on the event loop alone, but for `end_at_once`."""

    def __init__(self, server: Server, http: HttpServer, keys: Keys | None, drain_seconds: float) -> None:
        """Begin; nothing runs yet.

        Args:
            server: what is served.
            http: who answers.
            keys: of clients.
            drain_seconds: that requests under way have when the server is to stop.
        """
        self._server = server
        self._http = http
        self._keys = keys
        self._drain_seconds = drain_seconds
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._beside: set[asyncio.Task[Any]] = set()

    async def run(self, announce: Callable[[], None]) -> int:
        """Serve until told to stop, and finish what was accepted.

        Args:
            announce: called when requests can be answered.

        Returns:
            `DRAINED`, or `LOST` where a request that was accepted got no answer in time.
        """
        self._http.start()
        self._server.metrics.watch_connections(lambda: self._http.connections)
        self.begin(self._announce(announce))
        await self._stop.wait()
        log_event("stopping", requests=self._http.requests, connections=self._http.connections)
        began = time.monotonic()
        answered = await self._http.stop(self._drain_seconds)
        left = self._drain_seconds - (time.monotonic() - began)
        finished = await self._server.models.drain(max(0.0, left))
        if not answered:  # the models refuse them now
            await asyncio.sleep(_LAST_WORDS_SECONDS)
        self._http.abort()
        done = answered and finished
        log_event("stopped", lost=not done)
        return DRAINED if done else LOST

    def stop(self) -> None:
        """Drain; a second call ends at once."""
        if self._stop.is_set():
            self.end_at_once()
        self.drain()

    def drain(self) -> None:
        """Be ready no more, finish what was accepted, and end."""
        self._server.not_ready = _STOPPING
        self._stop.set()

    def begin(self, what: Coroutine[Any, Any, Any]) -> None:
        """Run something beside the rest, such as a reload."""
        task = asyncio.get_running_loop().create_task(what)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def reload(self) -> Mapping[str, str]:
        """Read the keys and open the bundles anew; what cannot be keeps what it had.

        Returns:
            Name of a bundle, or "keys" → "reloaded", "unchanged" or "failed"; the log says why.
        """
        async with self._reloading:
            results: dict[str, str] = {}
            if self._keys is not None:
                try:
                    self._keys.reload()
                    results["keys"] = "reloaded"
                except CxrEngineError as error:
                    log_failure(f"keys were not reloaded: {error}", error)
                    results["keys"] = "failed"
            try:
                reasons = await self._server.models.reload()
            except Exception as error:
                log_failure("bundles were not reloaded", error)
                return results | dict.fromkeys(self._server.models.names, "failed")
            for name, reason in reasons.items():
                results[name] = reason if reason in ("reloaded", "unchanged") else "failed"
                self._server.metrics.reloaded(name, results[name] != "failed")
                log_event("reload", model=name, result=reason)
            return results

    @staticmethod
    def end_at_once() -> None:
        """End the process: what is under way is lost."""
        log_event("ended at once", lost=True)
        os._exit(LOST)

    async def _announce(self, announce: Callable[[], None]) -> None:
        while not self._server.models.ready()[0]:
            await asyncio.sleep(_POLL_SECONDS)
        announce()


@contextlib.contextmanager
def signals(handlers: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call these on the running event loop when signals come, which are named as in "SIGTERM"; then as before.

    Signals that the system does not have are passed over. Outside of the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {}

    def handle(call: Callable[[], None]) -> Callable[[int, Any], None]:
        def soon(_number: int, _frame: Any) -> None:
            loop.call_soon_threadsafe(call)

        return soon

    for name, call in handlers.items():
        number = getattr(signal, name, None)
        if number is not None:
            before[number] = signal.signal(number, handle(call))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def close_models(models: ServedModels) -> None:
    """End the engines' threads and child processes; one that hangs is not waited for."""
    closing = threading.Thread(target=models.close, daemon=True)
    closing.start()
    closing.join(_CLOSING_SECONDS)
