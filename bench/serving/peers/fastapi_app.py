"""Plain FastAPI around the runtime: a call of `encode` a request, as users write it: `python fastapi_app.py PORT`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main(port: int) -> None:
    """Serve on a port of loopback."""
    import uvicorn
    from fastapi import FastAPI

    import runtime
    from bench.serving.peers.graph import TOLD

    told = json.loads(os.environ[TOLD])
    engine = runtime.load(
        told["bundle"], told["provider"], told["precision"], told["threads"], parts=["text"], text_cache=0
    )
    app = FastAPI()

    # FastAPI calls what is no coroutine in a thread of its pool.
    def embed(body: dict[str, Any]) -> list[list[float]]:
        found: list[list[float]] = engine.text.encode(body["inputs"]).tolist()
        return found

    def health() -> dict[str, str]:
        return {}

    app.post("/embed")(embed)
    app.get("/health")(health)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]))
