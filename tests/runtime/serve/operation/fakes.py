"""A server without bundles: routes that take their time, read bodies or fail, and one that runs on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runtime.errors import InputError
from runtime.serve.app import build_app
from runtime.serve.limits import Limits
from runtime.serve.operation.connections import Bounds
from runtime.serve.operation.http_server import HttpServer
from runtime.serve.operation.logs import configure_logs, flush_logs
from runtime.serve.operation.metrics import Metrics
from runtime.serve.operation.sockets import bind_tcp
from runtime.serve.request_errors import RequestError
from runtime.serve.server_state import Server


class Models:
    """Bundles that are always well, until told otherwise."""

    names = ("fake",)

    def __init__(self) -> None:
        self.is_ready = (True, "")
        self.is_alive = (True, "")
        self.is_busy: float | None = None
        self.results: Mapping[str, str] = {"fake": "reloaded"}
        self.drained: list[float] = []

    def ready(self) -> tuple[bool, str]:
        return self.is_ready

    def busy(self) -> float | None:
        return self.is_busy

    def alive(self) -> tuple[bool, str]:
        return self.is_alive

    async def reload(self) -> Mapping[str, str]:
        return self.results

    async def drain(self, seconds: float) -> bool:
        self.drained.append(seconds)
        return True

    def close(self) -> None:
        pass


class Handlers:
    """Routes; what they saw is kept."""

    def __init__(self) -> None:
        self.callers: list[Any] = []
        self.gone = threading.Event()
        self.entered = threading.Semaphore(0)
        self.go = asyncio.Event()

    def routes(self) -> list[Route]:
        return [
            Route("/length", self.length, methods=["POST"]),
            Route("/wait", self.wait, methods=["POST"]),
            Route("/sleep", self.sleep, methods=["POST"]),
            Route("/large", self.large),
            Route("/fail", self.fail, methods=["POST"]),
            Route("/refuse", self.refuse, methods=["POST"]),
            Route("/models/{name}/infer", self.length, methods=["POST"]),
        ]

    async def length(self, request: Request) -> Response:
        """How long the body is."""
        caller = request.state.caller
        self.callers.append(caller)
        body = await request.body()
        caller.timings.items, caller.timings.tokens = 2, 10
        return JSONResponse({"length": len(body), "remaining": caller.remaining()})

    async def wait(self, request: Request) -> Response:
        """Answer when told to."""
        await request.body()
        request.state.caller.on_leave(self.gone.set)
        self.entered.release()
        await self.go.wait()
        return PlainTextResponse("waited")

    async def sleep(self, request: Request) -> Response:
        """Answer after as many seconds as the body says."""
        await asyncio.sleep(float(await request.body()))
        return PlainTextResponse("slept")

    async def large(self, _: Request) -> Response:
        """More than a socket holds."""
        return Response(bytes(64 << 20))

    async def fail(self, request: Request) -> Response:
        """Fail with what came in the message."""
        raise ValueError(f"cannot use {await request.body()!r} {request.query_params}")

    async def refuse(self, request: Request) -> Response:
        """Refuse as the body says."""
        kind = (await request.body()).decode()
        raise InputError("items cannot be used") if kind == "InputError" else RequestError(kind, "refused", 7.2)


def make(limits: Limits | None = None, **options: Any) -> tuple[Any, Server, Handlers]:
    """An application, its server and its handlers."""
    handlers = Handlers()
    server = Server(Models(), limits or Limits(), Metrics(options.get("load"), process=False))
    return build_app(server, routes=handlers.routes(), **options), server, handlers


class Live:
    """A server on a socket of this machine, on a thread of its own."""

    def __init__(self, app: Any, server: Server, bounds: Bounds) -> None:
        self.server = server
        (self.socket,) = bind_tcp("127.0.0.1", 0)
        self.address = self.socket.getsockname()
        self.bounds = bounds
        self._app = app
        self.http: Any = None
        self.loop: Any = None
        self._started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.http = HttpServer(self._app, [self.socket], self.bounds)
        self.http.start()
        self._started.set()
        await self._end.wait()
        self.http.abort()
        await asyncio.sleep(0.01)

    def call(self, what: Any) -> Any:
        """Run a coroutine on its loop."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(20)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, opened: socket.socket, text: str | bytes) -> bytes:
        """Send text and read until the server closes, or an answer with a length is there."""
        opened.sendall(text.encode() if isinstance(text, str) else text)
        return read_answer(opened)

    @contextlib.contextmanager
    def running(self) -> Iterator[Live]:
        self.thread.start()
        self._started.wait(10)
        try:
            yield self
        finally:
            self.loop.call_soon_threadsafe(self._end.set)
            self.thread.join(10)


def read_answer(opened: socket.socket) -> bytes:
    """An HTTP answer as a whole; what came where the connection ends before."""
    got = b""
    while True:
        head, found, body = got.partition(b"\r\n\r\n")
        if found:
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            if len(body) >= int(fields.get(b"content-length", 1 << 60)):
                return got
        piece = opened.recv(1 << 16)
        if not piece:
            return got
        got += piece


@contextlib.contextmanager
def logged(as_json: bool = True) -> Iterator[None]:
    """Log as the server does; all is as before afterwards."""
    names = ("runtime", "runtime.serve", "uvicorn", "asyncio")
    before = [(each, each.handlers, each.level, each.propagate) for each in map(logging.getLogger, names)]
    hook = threading.excepthook
    configure_logs(as_json)
    try:
        yield
    finally:
        flush_logs()
        threading.excepthook = hook
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.level, logger.propagate = handlers, level, propagate
            logger.setLevel(level)
