"""LitServe with its dynamic batching: `python litserve_app.py PORT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import litserve
from numpy.typing import NDArray

from bench.serving.peers.graph import MAX_BATCH, open_told

# Seconds that a batch waits for company.
_TIMEOUT = 0.01


class Embedder(litserve.LitAPI):
    """The graph as LitServe wants it."""

    def setup(self, device: str) -> None:
        """Open the graph, in the process that computes."""
        self._graph = open_told()

    # LitServe makes models for validation of annotations; without any it takes and gives JSON as it is.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The text of a request."""
        return request["inputs"]

    def predict(self, x: Sequence[str]) -> NDArray[Any]:
        """Embed a batch."""
        return self._graph(x)

    def unbatch(self, output: NDArray[Any]) -> list[NDArray[Any]]:
        """A row a request."""
        return list(output)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """As text-embeddings-inference answers."""
        return [output.tolist()]


if __name__ == "__main__":
    api = Embedder(max_batch_size=MAX_BATCH, batch_timeout=_TIMEOUT, api_path="/embed")
    # `fast_queue` is what its documentation advises for high rates.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
