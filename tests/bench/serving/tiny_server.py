"""A small server with this project's paths, an engine call a request: `python tiny_server.py serve BUNDLE --port N`.

The load client and the scenarios are tried on it; its faults are asked for by options:
`--wait SECONDS` before every answer, `--swap` answers every second request with the embedding of the text before.
"""

from __future__ import annotations

import argparse
import asyncio

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("bundle")
    parser.add_argument("--port", type=int)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--text-cache", type=int)  # it keeps nothing
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--swap", action="store_true")
    parser.add_argument("--accept", type=int, default=10**6)
    options = parser.parse_args()
    engine = None
    if options.bundle != "none":
        import runtime

        engine = runtime.load(options.bundle, provider=options.provider, precision=options.precision, threads=1)
    last: list[object] = [None]
    busy = [0]

    async def embed(request: Request) -> Response:
        if busy[0] >= options.accept:
            return JSONResponse({"error": "busy"}, 429, {"Retry-After": "1"})
        busy[0] += 1
        try:
            texts = (await request.json())["inputs"]
            if options.wait:
                await asyncio.sleep(options.wait)
            rows = (await asyncio.to_thread(engine.text.encode, texts)).tolist() if engine else texts
            last[0], before = rows, last[0]
            return JSONResponse(before if options.swap and before is not None else rows)
        finally:
            busy[0] -= 1

    async def ready(_: Request) -> Response:
        return JSONResponse({})

    routes = [Route("/embed", embed, methods=["POST"]), Route("/ready", ready), Route("/health", ready)]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=options.port, log_level="error")


if __name__ == "__main__":
    main()
