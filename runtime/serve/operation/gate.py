"""Who may ask at all: keys, and pages of other sites in a user's browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from runtime.serve.operation.keys import Keys
from runtime.serve.request_errors import RequestError

__all__ = ["HEALTH", "Gate", "is_loopback"]

# Probes and orchestrators ask these, without a key and however busy the server is.
HEALTH = frozenset({"/health", "/ping", "/livez", "/ready", "/readyz", "/v2/health/live", "/v2/health/ready"})
# What a browser loads before its user could give a key.
_PAGES = frozenset({"/docs", "/openapi.json"})
_PAGE = "/page/"
# That are remembered: clients call a server by few.
_NAMES = 64


class Gate:
    """An ASGI middleware that lets in those who show a key; without keys, those who are no other site's page.

    A page of another site can make its visitor's browser send requests to addresses that only the visitor reaches. Its
    Origin tells (CSRF); where its name was made to point here (DNS rebinding), its Host does.
    """

    def __init__(
        self,
        app: Any,
        *,
        keys: Keys | None,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        page: bool = True,
    ) -> None:
        """Put it before an application.

        Args:
            app: the application.
            keys: of clients; None asks for none.
            hosts: names that the server may be called by where there are no keys, beside loopback ones; None admits
                any name.
            origins: whose pages may send requests.
            page: whether `GET /` is the page.
        """
        self.app = app
        self._keys = keys
        self._hosts = None if hosts is None else frozenset(hosts)
        self._origins = frozenset(origins)
        self._page = page

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raise RequestError for a request that is not let in."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            admitted = self._keys is None or self._shows_key(self._keys, headers)
            if self._keys is None:
                self._check_browser(headers)
            elif not admitted and not self._is_open(scope["method"], scope["path"]):
                raise RequestError(
                    "Unauthorized",
                    "A key is needed: send the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            # What is open to everybody says more to those who have a key.
            scope.setdefault("state", {})["admitted"] = admitted
        await self.app(scope, receive, send)

    def _is_open(self, method: str, path: str) -> bool:
        if path in HEALTH or path in _PAGES or path.startswith(_PAGE):
            return True
        return self._page and path == "/" and method in ("GET", "HEAD")

    @staticmethod
    def _shows_key(keys: Keys, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()
        return keys.admit(given)

    def _check_browser(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and host:
            name = _host_name(host)
            if not (name in self._hosts or is_loopback(name)):
                raise RequestError(
                    "Forbidden",
                    "The header Host names another server than this one, which answers on this machine alone. "
                    "Call it by localhost, or give it keys.",
                )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin not in self._origins and urlsplit(origin).netloc != host:
            raise RequestError(
                "Forbidden", "Pages of another origin may not send requests here; see the server's --cors-origin."
            )


@lru_cache(_NAMES)
def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(_NAMES)
def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:  # brackets that do not match, say
        return ""
