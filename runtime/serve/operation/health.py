"""Routes of operation: health, metrics, reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.serve.operation.exposition import CONTENT_TYPE, Family, rendered
from runtime.serve.request_errors import RequestError
from runtime.serve.server_state import Server

__all__ = ["Reload", "Scrape", "routes"]

# Name → "reloaded", "unchanged" or why it was not.
Reload = Callable[[], Awaitable[Mapping[str, str]]]
Scrape = Callable[[], Awaitable[Sequence[Family]]]


def routes(server: Server, scrape: Scrape, reload: Reload | None) -> list[Route]:
    """The routes.

    Args:
        server: whose health is asked for.
        scrape: what /metrics shows.
        reload: what POST /admin/reload does; None where clients may not ask for it.
    """

    async def alive(_: Request) -> Response:
        return _state("alive", *server.models.alive())

    async def ready(_: Request) -> Response:
        return _state("ready", *server.ready())

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(rendered(await scrape()), headers={"content-type": CONTENT_TYPE})

    async def admin_reload(_: Request) -> Response:
        if reload is None:
            raise RequestError("Forbidden", "Where no keys are set, bundles are reloaded from this machine alone.")
        results = await reload()
        done = all(each in ("reloaded", "unchanged") for each in results.values())
        return JSONResponse({"done": done, "models": results}, 200 if done else 500)

    return [
        *(Route(path, alive) for path in ("/health", "/ping", "/livez")),
        *(Route(path, ready) for path in ("/ready", "/readyz")),
        Route("/metrics", metrics),
        Route("/admin/reload", admin_reload, methods=["POST"]),
    ]


def _state(name: str, good: bool, reason: str) -> Response:
    if good:
        return JSONResponse({"status": name})
    return JSONResponse({"error": reason or f"not {name}", "error_type": "Unhealthy"}, 503)
