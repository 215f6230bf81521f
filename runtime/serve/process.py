"""A server in this process: bundles, application and connections, from the settings to the exit status."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from runtime.errors import InputError
from runtime.process import print_note, report_written
from runtime.process.wording import RANDOM_WEIGHTS
from runtime.serve.app import build_app
from runtime.serve.models.contract import ServedModels
from runtime.serve.models.opening import Opening
from runtime.serve.models.registry import open_models
from runtime.serve.operation.admission import Load
from runtime.serve.operation.connections import Bounds
from runtime.serve.operation.http_server import HttpServer
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.lifecycle import Lifecycle, close_models, signals
from runtime.serve.operation.logs import configure_logs
from runtime.serve.operation.metrics import Metrics
from runtime.serve.operation.sockets import allow_open_files, bind_tcp, bind_unix, loopback_only, shown_address
from runtime.serve.server_state import ServedIndex, Server
from runtime.serve.settings import IndexFolder, Settings

__all__ = ["bind", "run_server", "serve"]


def serve(settings: Settings) -> int:
    """Serve until told to stop.

    Returns:
        The exit status: 0, or 1 where requests were lost.

    Raises:
        CxrEngineError: a bundle, an index or the file of keys cannot be used, or the address is taken.
    """
    keys = Keys(settings.key_file) if settings.key_file else None
    sockets = bind(settings)
    try:
        return run_server(settings, keys, sockets, lambda server: report_written(_announcement(server, sockets)))
    finally:
        for each in sockets:
            each.close()
        if settings.uds is not None:
            settings.uds.unlink(missing_ok=True)


def bind(settings: Settings) -> list[socket.socket]:
    """The sockets to listen on, not yet listening."""
    return [bind_unix(settings.uds)] if settings.uds else bind_tcp(settings.host, settings.port)


def run_server(
    settings: Settings, keys: Keys | None, sockets: Sequence[socket.socket], announce: Callable[[Server], None]
) -> int:
    """Load what is to be served and serve it on sockets until told to stop; returns the exit status.

    Args:
        settings: what is to be served.
        keys: of clients.
        sockets: bound, not listening.
        announce: called when requests can be answered.
    """
    load = Load()
    metrics = Metrics(load)
    allow_open_files(settings.limits.connections)
    opening = Opening(settings.engine, settings.auto_truncate, settings.decode_processes)
    models = open_models(settings.bundles, opening, settings.limits, metrics)
    server = Server(
        models,
        settings.limits,
        metrics,
        _open_indexes(settings.indexes, models),
        settings.task,
        settings.page,
        settings.auto_truncate,
    )
    _describe_engines(server)
    configure_logs(settings.log_json)
    try:
        return asyncio.run(_run(settings, server, keys, sockets, load, announce))
    finally:
        close_models(server)


async def _run(
    settings: Settings,
    server: Server,
    keys: Keys | None,
    sockets: Sequence[socket.socket],
    load: Load,
    announce: Callable[[Server], None],
) -> int:
    lifecycle: Lifecycle

    async def reload() -> Mapping[str, str]:
        results = await lifecycle.reload()
        _describe_engines(server)
        return results

    local = settings.uds is not None or loopback_only(settings.host)
    app = build_app(
        server,
        keys,
        settings.origins,
        hosts=_hosts(settings) if local and settings.uds is None else None,
        load=load,
        reload=reload if local or keys is not None else None,
    )
    http = HttpServer(app, sockets, Bounds(settings.limits, closed=server.metrics.connection_closed))
    lifecycle = Lifecycle(server, http, keys, settings.drain_seconds)
    handlers = {
        "SIGTERM": lifecycle.stop,
        "SIGINT": lifecycle.stop,
        "SIGBREAK": lifecycle.stop,
        "SIGHUP": lifecycle.begin_reload,
    }
    with signals(handlers):
        return await lifecycle.run(lambda: announce(server))


def _hosts(settings: Settings) -> set[str]:
    """Names that clients may call a server on this machine by, beside loopback ones."""
    return {settings.host, *(urlsplit(each).hostname or "" for each in settings.origins)}


def _open_indexes(folders: Sequence[IndexFolder], models: ServedModels) -> dict[str, ServedIndex]:
    if not folders:
        return {}
    from runtime.retrieval.index import check_model, open_index

    opened = {}
    with models.lease() as model:
        for each in folders:
            index = open_index(each.folder)
            check_model(model.engine.manifest, index.about.origin, f"The index {each.name}")
            root = each.root.resolve() if each.root else None
            if root is not None and not root.is_dir():
                raise InputError(
                    f"There is no folder {root}, in which the pictures of the index {each.name} should lie."
                )
            opened[each.name] = ServedIndex(each.name, index, root)
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


def _announcement(server: Server, sockets: Sequence[socket.socket]) -> str:
    shown = []
    for name in server.models.names:
        with server.models.lease(name) as model:
            engine = model.engine
            if engine.manifest.source.kind == "random":
                print_note(f"{name}: {RANDOM_WEIGHTS}")
            shown.append(f"{name} ({engine.provider}, {', '.join(map(str, engine.choices.values()))})")
    return f"Serving {'; '.join(shown)} on {shown_address(list(sockets))}"
