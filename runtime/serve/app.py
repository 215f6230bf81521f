"""The application: every protocol's routes behind the middlewares of `runtime.serve.operation`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route

from runtime.serve.operation import health
from runtime.serve.operation.admission import Admission, Load
from runtime.serve.operation.frame import Frame, as_request_error
from runtime.serve.operation.gate import Gate
from runtime.serve.operation.health import Reload, Scrape
from runtime.serve.operation.keys import Keys
from runtime.serve.operation.metrics import Metrics
from runtime.serve.operation.shortcut import Shortcut
from runtime.serve.page import page
from runtime.serve.protocols import hugging_face, kserve, openai, openapi, own, tei
from runtime.serve.server_state import Server
from runtime.serve.wire.failures import answer

__all__ = ["build_app"]

_PROTOCOLS = (hugging_face, openai, tei, kserve, own, openapi)
_UNKNOWN = "other"
# What pages of other origins may send and read, where they may ask at all.
_REQUEST_HEADERS = ("Authorization", "Content-Type", "X-API-Key", "X-Request-Id", "X-Request-Timeout")
_ANSWER_HEADERS = (
    "Retry-After", "X-Request-Id", "X-Compute-Type", "X-Compute-Time", "X-Compute-Characters", "X-Compute-Tokens",
    "X-Total-Time", "X-Tokenization-Time", "X-Queue-Time", "X-Inference-Time",
)  # fmt: skip


def build_app(
    server: Server,
    keys: Keys | None = None,
    cors: Sequence[str] = (),
    *,
    hosts: Collection[str] | None = None,
    load: Load | None = None,
    scrape: Scrape | None = None,
    reload: Reload | None = None,
    routes: Sequence[BaseRoute] | None = None,
) -> Starlette:
    """Put routes and middlewares together.

    Args:
        server: what handlers share. Metrics are made where it has none.
        keys: of clients; None lets everybody in.
        cors: origins whose pages may ask, such as "https://reports.example"; there are none by default.
        hosts: names that the server may be called by, beside loopback ones, where there are no keys; None for any.
        load: where requests under way are counted, for the metrics.
        scrape: what /metrics shows; None for what this process counts.
        reload: what POST /admin/reload does; None where clients may not ask for it.
        routes: of the protocols; None for all.
    """
    load = load or Load()
    metrics: Metrics = server.metrics or Metrics(load)
    server.metrics = metrics
    metrics.watch_ready(lambda: server.ready()[0])

    async def own_metrics() -> Any:
        return metrics.families()

    every = [*health.routes(server, scrape or own_metrics, reload), *(_routes(server) if routes is None else routes)]
    middleware = [
        Middleware(
            Frame,
            answer=answer,
            template=_templates(every),
            record=metrics.request,
            request_seconds=server.limits.request_seconds,
        ),
        Middleware(Gate, keys=keys, hosts=hosts, origins=cors, page=server.page),
        Middleware(Admission, limits=server.limits, load=load, busy=server.models.busy),
        Middleware(Shortcut, routes=every),
    ]
    if cors:  # outermost, so that pages can read refusals as well
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors),
                allow_methods=["GET", "POST"],
                allow_headers=_REQUEST_HEADERS,
                expose_headers=_ANSWER_HEADERS,
            ),
        )
    app = Starlette(routes=every, middleware=middleware, exception_handlers={HTTPException: as_request_error})
    app.router.redirect_slashes = False
    app.state.server = server
    return app


def _routes(server: Server) -> list[BaseRoute]:
    found = [route for each in _PROTOCOLS for route in each.routes()]
    return [*found, *page.routes()] if server.page else found


def _templates(routes: Sequence[BaseRoute]) -> Callable[[str], str]:
    """What a path was declared as: for logs and metrics, where nothing that a client made up may stand."""
    declared = [each for each in routes if isinstance(each, Route)]
    plain = {each.path for each in declared if "{" not in each.path}
    patterns: list[tuple[re.Pattern[str], str]] = [
        (each.path_regex, each.path) for each in declared if "{" in each.path
    ]

    def template(path: str) -> str:
        if path in plain:
            return path
        return next((name for pattern, name in patterns if pattern.match(path)), _UNKNOWN)

    return template
