"""The server's bundles by name; they can be replaced while requests run."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import CxrEngineError
from runtime.serve.limits import Limits
from runtime.serve.models.model import Model
from runtime.serve.models.opening import Opening, bundle_digest, open_model, warm_up
from runtime.serve.request_errors import RequestError
from runtime.serve.scheduling.observer import Observer
from runtime.serve.scheduling.scheduler import Scheduler

__all__ = ["Models", "open_models"]

_LOG = logging.getLogger("runtime.serve")
# Tasks such as `classify` and `ground` wait on threads for their turn.
_THREADS = 64
_POLL = 0.02


@dataclass(eq=False)
class _Loaded:
    """A bundle, and how many requests use it."""

    model: Model
    close: Callable[[], None]
    leases: int = 0
    retired: bool = False


class Models:
    """See `contract.ServedModels`."""

    def __init__(
        self, paths: Mapping[str, Path], opening: Opening, limits: Limits, observer: Observer | None = None
    ) -> None:
        """Nothing is opened yet: see `open_models`."""
        self._paths = dict(paths)
        self._opening = opening
        self._limits = limits
        self._scheduler = Scheduler(wait_seconds=limits.wait_seconds, queue_items=limits.queue_items, observer=observer)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cxr-task")
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._reloading = asyncio.Lock()
        self._state = "starting"

    @property
    def names(self) -> Sequence[str]:
        """See `ServedModels`."""
        return tuple(self._paths)

    def open(self) -> None:
        """Open and warm up all bundles.

        Raises:
            BundleError, ProviderError, InputError: one of them cannot be; all are closed again.
        """
        self._scheduler.start()
        try:
            for name, path in self._paths.items():
                self._loaded[name] = self._open(name, path)
        except BaseException:
            self.close()
            raise
        self._state = "ready"

    def _open(self, name: str, path: Path) -> _Loaded:
        model, close = open_model(name, path, self._opening, self._scheduler, self._threads, self._limits)
        began = time.monotonic()
        try:
            calls = warm_up(model)
        except BaseException:
            close()
            raise
        _LOG.info("%s: warmed up by %d calls in %.1f s", name, calls, time.monotonic() - began)
        return _Loaded(model, close)

    @contextmanager
    def lease(self, name: str | None = None) -> Iterator[Model]:
        """See `ServedModels`."""
        with self._lock:
            loaded = self._loaded.get(name or next(iter(self._paths)))
            if loaded is None:
                known = name is None or name in self._paths
                reason = "The server has not loaded it yet." if known else "There is no model of that name."
                raise RequestError("Unhealthy" if known else "NotFound", reason, param="model")
            loaded.leases += 1
        try:
            yield loaded.model
        finally:
            with self._lock:
                loaded.leases -= 1
                unused = loaded.retired and loaded.leases == 0
            if unused:
                threading.Thread(target=loaded.close, name="cxr-close").start()

    def ready(self) -> tuple[bool, str]:
        """See `ServedModels`."""
        stuck = self._scheduler.stuck()
        if stuck is not None:
            return False, stuck
        return self._state == "ready", self._state

    def busy(self) -> float | None:
        """See `ServedModels`."""
        return self._scheduler.busy()

    def alive(self) -> tuple[bool, str]:
        """See `ServedModels`."""
        stuck = self._scheduler.stuck()
        return stuck is None, stuck or "alive"

    async def reload(self) -> Mapping[str, str]:
        """See `ServedModels`."""
        async with self._reloading:
            return {name: await asyncio.to_thread(self._reload, name) for name in self.names}

    def _reload(self, name: str) -> str:
        path = self._paths[name]
        try:
            if bundle_digest(path) == self._loaded[name].model.digest:
                return "unchanged"
            fresh = self._open(name, path)
        except (CxrEngineError, RequestError, OSError, MemoryError) as error:
            _LOG.error("%s was not reloaded, the one before stays: %s", name, error)
            return f"not reloaded ({type(error).__name__}); the one before stays, the log says why"
        with self._lock:
            before, self._loaded[name] = self._loaded[name], fresh
            before.retired = True
            unused = before.leases == 0
        if unused:
            before.close()
        return "reloaded"

    async def drain(self, seconds: float) -> bool:
        """See `ServedModels`."""
        self._state = "draining"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with self._lock:
                if not any(loaded.leases for loaded in self._loaded.values()) and self._scheduler.idle:
                    return True
            await asyncio.sleep(_POLL)
        return False

    def close(self) -> None:
        """See `ServedModels`."""
        self._state = "closed"
        self._scheduler.close()
        for loaded in self._loaded.values():
            loaded.close()
        self._loaded.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_models(
    bundles: Mapping[str, str | os.PathLike[str]],
    opening: Opening,
    limits: Limits,
    observer: Observer | None = None,
) -> Models:
    """Open bundles for the server, and warm them up.

    Args:
        bundles: name → folder, at least one; the first is the default.
        opening: how.
        limits: of requests.
        observer: told of what the scheduler does.

    Raises:
        BundleError, ProviderError, InputError: see `runtime.load`.
    """
    models = Models({name: Path(path) for name, path in bundles.items()}, opening, limits, observer)
    models.open()
    return models
