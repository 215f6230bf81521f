"""Routes of the page and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runtime.serve.request_errors import RequestError

__all__ = ["ASSETS", "CONTENT_SECURITY_POLICY", "HEADERS", "routes"]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

# Sent with every file. "no-cache" keeps files but asks whether they changed: after an upgrade none is older than
# another.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cache-Control": "no-cache",
    }
)

_INDEX = "index.html"
_STYLES = "text/css; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"

# Every file of `assets`, and nothing else, is served: a client's path is looked up here and never opened.
ASSETS: Mapping[str, str] = MappingProxyType(
    {
        _INDEX: "text/html; charset=utf-8",
        "page.css": _STYLES,
        "results.css": _STYLES,
        **{
            f"{name}.js": _SCRIPT
            for name in (
                "page",
                "server",
                "offer",
                "api_key",
                "dom",
                "task",
                "appearance",
                "radiograph",
                "tools/phrases",
                "tools/labels",
                "tools/masked_words",
                "tools/search",
                "tools/texts",
                "drawing/colours",
                "drawing/interpolation",
                "drawing/isolines",
                "drawing/orientation",
                "drawing/paint",
                "drawing/map_view",
                "drawing/picture_file",
                "drawing/values",
            )
        },
    }
)


@dataclass(frozen=True)
class _Asset:
    content: bytes
    media_type: str
    etag: str


def routes() -> list[BaseRoute]:
    """`GET /` and `GET /page/{file}`, which answer HEAD and conditional requests too.

    The files are read now. `POST /` is left to the protocols.

    Raises:
        FileNotFoundError: the installation lacks a file.
    """
    assets = {name: _read(name, media_type) for name, media_type in ASSETS.items()}
    return [
        Route("/", _endpoint(lambda request: assets[_INDEX]), methods=["GET"]),
        Route("/page/{file:path}", _endpoint(lambda request: _found(assets, request)), methods=["GET"]),
    ]


def _read(name: str, media_type: str) -> _Asset:
    content = files(__package__).joinpath("assets", *name.split("/")).read_bytes()
    return _Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _found(assets: Mapping[str, _Asset], request: Request) -> _Asset:
    try:
        return assets[request.path_params["file"]]
    except KeyError:
        raise RequestError("NotFound", "The page has no such file.") from None


def _endpoint(asset_of: Callable[[Request], _Asset]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asset = asset_of(request)
        headers = {**HEADERS, "ETag": asset.etag}
        if _is_current(request.headers.get("if-none-match", ""), asset.etag):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    return endpoint


def _is_current(condition: str, etag: str) -> bool:
    """Whether `If-None-Match` names the file as it is: RFC 9110, 13.1.2, which compares weakly."""
    given = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in given or given == ["*"]
