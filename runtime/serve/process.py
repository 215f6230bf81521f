"""A server in this process, or in several workers: from the settings to the exit status."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn
from urllib.parse import urlsplit

from runtime.engines.cores import default_threads
from runtime.errors import CxrEngineError, InputError
from runtime.process import print_note, report_written
from runtime.serve.app import build_app
from runtime.serve.decoding.decoder import Decoder
from runtime.serve.models.contract import ServedModels
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import Models, open_models
from runtime.serve.operation.admission import Load
from runtime.serve.operation.connections import Bounds
from runtime.serve.operation.exposition import Family
from runtime.serve.operation.health import Reload, Scrape
from runtime.serve.operation.http_server import HttpServer
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.lifecycle import Lifecycle, close_models, signals
from runtime.serve.operation.logs import configure_logs, flush_logs
from runtime.serve.operation.metrics import Metrics
from runtime.serve.operation.peer import Handler, Peer
from runtime.serve.operation.sockets import allow_open_files, bind_tcp, bind_unix, loopback_only, shown_address
from runtime.serve.operation.turns import Turns
from runtime.serve.operation.workers import Workers
from runtime.serve.server_state import ServedIndex, Server
from runtime.serve.settings import IndexFolder, Settings

__all__ = ["serve"]

# New objects after which Python looks for circles of garbage, and how often it then looks at older ones; 700, 10, 10 by
# default.
_COLLECTOR = (20_000, 20, 20)
# mallopt's number for how many heaps the C library may have. glibc makes up to eight for each processor as threads
# come, and memory grows in each: 12,000 mixed requests took a server from 319 to 327 MB, with two from 295 to 295.
_M_ARENA_MAX, _ARENAS = -8, 2
# Why a worker is not ready while others load.
_OTHERS = "other processes are starting"


def serve(settings: Settings) -> int:
    """Serve until told to stop.

    Returns:
        The exit status: 0, or 1 where requests were lost.

    Raises:
        CxrEngineError: a bundle, an index or the file of keys cannot be used, or the address is taken.
    """
    _bound_arenas()
    keys = Keys(settings.key_file) if settings.key_file else None
    sockets = [bind_unix(settings.uds)] if settings.uds else bind_tcp(settings.host, settings.port)
    address = shown_address(sockets)

    def announce(text: str) -> None:
        several = f", {settings.workers} processes" if settings.workers > 1 else ""
        report_written(f"Serving {text} on {address}{several}")

    try:
        if settings.workers > 1:
            return _serve_by_workers(settings, keys, sockets, announce)
        with _open(settings, keys, sockets) as opened:
            configure_logs(settings.log_json)
            return asyncio.run(_run(opened, announce))
    finally:
        flush_logs()
        for each in sockets:
            each.close()
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def _bound_arenas() -> None:
    """Have threads share few of the C library's heaps, where it is glibc and nobody said otherwise."""
    if sys.platform == "linux" and not os.environ.get("MALLOC_ARENA_MAX"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _serve_by_workers(
    settings: Settings, keys: Keys | None, sockets: Sequence[socket.socket], announce: Callable[[str], None]
) -> int:
    configure_logs(settings.log_json)
    threads = settings.engine.threads or max(1, default_threads() // settings.workers)
    shared = replace(settings, engine=replace(settings.engine, threads=threads, share=True))

    async def run() -> int:
        workers = Workers(partial(_work, shared, keys), settings.workers, sockets, settings.drain_seconds)

        def reload() -> None:
            reloading.add(asyncio.ensure_future(workers.reload()))

        reloading: set[asyncio.Future[Any]] = set()
        with signals(_handlers(workers.stop, reload)):
            return await workers.run(announce)

    return asyncio.run(run())


def _work(
    settings: Settings,
    keys: Keys | None,
    number: int,
    turns: Turns,
    control: socket.socket,
    sockets: Sequence[socket.socket],
) -> NoReturn:
    """A worker's whole life."""
    try:
        with _open(settings, keys, sockets) as opened:
            configure_logs(settings.log_json, number)
            sys.exit(asyncio.run(_run_worker(opened, number, turns, control)))
    except CxrEngineError as error:
        print_note(f"{type(error).__name__}: {error}")
        sys.exit(1)
    finally:
        flush_logs()


@dataclass(frozen=True)
class _Opened:
    """What is served in this process, from where, and to whom."""

    settings: Settings
    server: Server
    load: Load
    keys: Keys | None
    sockets: Sequence[socket.socket]

    @property
    def bounds(self) -> Bounds:
        """Of connections."""
        return Bounds(self.settings.limits, closed=self.server.metrics.connection_closed)

    def app(self, scrape: Scrape, reload: Reload) -> Any:
        """The application."""
        settings = self.settings
        local = settings.uds is not None or loopback_only(settings.host)
        return build_app(
            self.server,
            self.keys,
            settings.origins,
            hosts=_hosts(settings) if local and settings.uds is None else None,
            load=self.load,
            scrape=scrape,
            reload=reload if local or self.keys is not None else None,
        )

    async def own_metrics(self) -> Sequence[Family]:
        """What this process counts."""
        own: Sequence[Family] = self.server.metrics.families()
        return own

    async def reload(self, lifecycle: Lifecycle) -> Mapping[str, str]:
        """Reload keys and bundles."""
        results = await lifecycle.reload()
        _describe_engines(self.server)
        return results


@contextmanager
def _open(settings: Settings, keys: Keys | None, sockets: Sequence[socket.socket]) -> Iterator[_Opened]:
    """Load what is to be served; closed again at the end."""
    load = Load()
    metrics = Metrics(load)
    allow_open_files(settings.limits.connections)
    opening = Opening(settings.engine, settings.auto_truncate, settings.decode_processes)
    models = open_models(settings.bundles, opening, settings.limits, metrics)
    try:
        indexes = _open_indexes(settings.indexes, models)
        server = Server(models, settings.limits, metrics, indexes, settings.task, settings.page, settings.auto_truncate)
        _describe_engines(server)
        metrics.watch_decoding(
            lambda: sum(each.waiting for each in _decoders(models)),
            lambda: sum(each.crashes for each in _decoders(models)),
        )
        metrics.watch_text_cache(lambda: sum(_text_cache_hits(models)))
        _spare_collector()
        yield _Opened(settings, server, load, keys, sockets)
    finally:
        close_models(models)


def _spare_collector() -> None:
    """Have the collector of garbage leave alone what was loaded, and come less often.

    Requests leave next to no circles behind, and all that was loaded would be gone through for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR)


async def _run(opened: _Opened, announce: Callable[[str], None]) -> int:
    """Serve what was opened in this process alone."""

    async def reload() -> Mapping[str, str]:
        return await opened.reload(lifecycle)

    http = HttpServer(opened.app(opened.own_metrics, reload), opened.sockets, opened.bounds)
    lifecycle = Lifecycle(opened.server, http, opened.keys, opened.settings.drain_seconds)
    with signals(_handlers(lifecycle.stop, lambda: lifecycle.begin(reload()))):
        return await lifecycle.run(lambda: announce(_description(opened.server)))


async def _run_worker(opened: _Opened, number: int, turns: Turns, control: socket.socket) -> int:
    """Serve what was opened beside other processes; `control` leads to the parent, which says what to do."""
    server = opened.server

    async def reload(_: Any) -> Mapping[str, str]:
        return await opened.reload(lifecycle)

    async def metrics(_: Any) -> Sequence[Family]:
        return await opened.own_metrics()

    async def drain(_: Any) -> None:
        lifecycle.drain()

    async def go(_: Any) -> None:
        if server.not_ready == _OTHERS:
            server.not_ready = ""

    async def ails(_: Any) -> str:
        well, reason = server.models.alive()
        return "" if well else reason

    async def follow() -> None:
        await parent.run()
        lifecycle.drain()  # the parent has ended

    handlers: Mapping[str, Handler] = {
        "go": go, "drain": drain, "reload": reload, "metrics": metrics, "ails": ails,
    }  # fmt: skip
    parent = await Peer.open(control, handlers)
    app = opened.app(partial(parent.call, "metrics"), partial(parent.call, "reload"))
    http = HttpServer(app, opened.sockets, opened.bounds, (turns, number))
    lifecycle = Lifecycle(server, http, opened.keys, opened.settings.drain_seconds)
    server.not_ready = _OTHERS
    lifecycle.begin(follow())
    # Terminals and service managers send signals to all processes: the parent alone says what they mean.
    with signals(_handlers(lambda: None, lambda: None)):
        return await lifecycle.run(lambda: lifecycle.begin(parent.call("ready", _description(server))))


def _handlers(stop: Callable[[], None], reload: Callable[[], None]) -> dict[str, Callable[[], None]]:
    return {"SIGTERM": stop, "SIGINT": stop, "SIGBREAK": stop, "SIGHUP": reload}


def _hosts(settings: Settings) -> set[str]:
    """Names that clients may call a server on this machine by, beside loopback ones."""
    return {settings.host, *(urlsplit(each).hostname or "" for each in settings.origins)}


def _open_indexes(folders: Sequence[IndexFolder], models: ServedModels) -> dict[str, ServedIndex]:
    if not folders:
        return {}
    from runtime.retrieval.index import check_model, open_index

    opened = {}
    for each in folders:
        root = each.root.resolve() if each.root else None
        if root is not None and not root.is_dir():
            raise InputError(f"There is no folder {root}, in which the pictures of the index {each.name} should lie.")
        index = open_index(each.folder)
        faults = {}
        for name in models.names:
            with models.lease(name) as model:
                try:
                    check_model(model.engine.manifest, index.about.origin, f"The index {each.name}")
                except InputError as error:
                    faults[name] = error
                    continue
            opened[each.name] = ServedIndex(each.name, index, root, name)
            break
        else:
            raise faults[models.names[0]]
    return opened


def _describe_engines(server: Server) -> None:
    rows = []
    for name in server.models.names:
        with server.models.lease(name) as model:
            engine = model.engine
            precisions = ", ".join(f"{part} {choice.precision}" for part, choice in engine.choices.items())
            family = engine.manifest.family
            rows.append({"model": name, "family": family, "provider": engine.provider, "precision": precisions})
    server.metrics.engines(rows)


def _decoders(models: Models) -> Iterator[Decoder]:
    for name in models.names:
        with models.lease(name) as model:
            if model.decoder is not None:
                yield model.decoder


def _text_cache_hits(models: Models) -> Iterator[int]:
    for name in models.names:
        with models.lease(name) as model:
            if model.engine.manifest.text is not None:
                yield model.engine.text.cache.hits


def _description(server: Server) -> str:
    shown = []
    for name in server.models.names:
        with server.models.lease(name) as model:
            engine = model.engine
            about = [engine.provider, *map(str, engine.choices.values())]
            if engine.manifest.source.kind == "random":
                about.append("random weights: results mean nothing")
            shown.append(f"{name} ({', '.join(about)})")
    return "; ".join(shown)
