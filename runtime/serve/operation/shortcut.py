"""Handlers by method and path, so that not every route is tried for every request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route

__all__ = ["Shortcut"]


class Shortcut:
    """An ASGI middleware that calls the handler of a path without parameters; the application routes what is left."""

    def __init__(self, app: Any, *, routes: Sequence[BaseRoute]) -> None:
        """Put it before an application.

        Args:
            app: the application.
            routes: its own, of which the first that fits is taken.
        """
        self.app = app
        self._handlers: dict[tuple[str, str], Any] = {}
        patterns: list[BaseRoute] = []
        for each in routes:
            if not isinstance(each, Route) or "{" in each.path:
                patterns.append(each)
                continue
            for method in each.methods or ():
                scope = {"type": "http", "method": method, "path": each.path, "headers": []}
                if all(pattern.matches(scope)[0] is Match.NONE for pattern in patterns):
                    self._handlers.setdefault((method, each.path), each.endpoint)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        handler = self._handlers.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            await self.app(scope, receive, send)
        else:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)
