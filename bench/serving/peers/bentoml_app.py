"""BentoML with its adaptive batching: `bentoml serve bench.serving.peers.bentoml_app:Embedder --port PORT`."""

import bentoml
import numpy as np

from bench.serving.peers.graph import MAX_BATCH, open_told


# Its guide: where a service batches, `concurrency` is the size of a batch.
@bentoml.service(workers=1, traffic={"concurrency": MAX_BATCH, "timeout": 60})
class Embedder:
    """The graph as BentoML wants it."""

    def __init__(self) -> None:
        self._graph = open_told()

    @bentoml.api(route="/embed", batchable=True, max_batch_size=MAX_BATCH)
    def embed(self, inputs: list[str]) -> np.ndarray:
        """Embed a batch."""
        return self._graph(inputs)
