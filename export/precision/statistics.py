"""What a graph's tensors look like on calibration data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graphs.watch import opened_beside
from runtime.engines import Provider

__all__ = ["TensorStatistics", "collect_statistics"]

# Moments of few rows cost as much to copy and to add as to compute: of BERT-base 3.5 times as much for 300 rows each as
# for 2,000, which take half a gigabyte while they wait.
_TOKENS_AT_ONCE = 2048


@dataclass
class TensorStatistics:
    """Statistics of one tensor over its last axis.

    Attributes:
        lowest: float32 (channels,); highest alike.
        rows: number of rows x.
        origin: float32 (channels,), about the mean: squares of what differs little would drown in those of the mean.
        sums: float64 (channels,), the sum of all x - origin.
        moments: float32 (channels, channels), the sum of (x - origin)ᵀ(x - origin).
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    rows: int
    origin: NDArray[np.float32]
    sums: NDArray[np.float64]
    moments: NDArray[np.float32]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean of each channel: float64 (channels,)."""
        return self.origin + self.sums / self.rows

    @property
    def variances(self) -> NDArray[np.float64]:
        """Of each channel: float64 (channels,), not negative."""
        squares, offset = np.diag(self.moments).astype(np.float64) / self.rows, self.sums / self.rows
        variances: NDArray[np.float64] = np.maximum(squares - offset**2, 0)
        return variances

    @property
    def covariance(self) -> NDArray[np.float64]:
        """float64 (channels, channels); computed each time, since those of all products together fill gigabytes."""
        offset = self.sums / self.rows
        return self.moments.astype(np.float64) / self.rows - np.outer(offset, offset)


def collect_statistics(
    model: Path,
    tensors: Sequence[str],
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    engine: Provider,
    progress: Callable[[float], None] = lambda share: None,
    *,
    changed: onnx.ModelProto | None = None,
) -> dict[str, TensorStatistics]:
    """Run a graph on calibration data and gather statistics of inner tensors.

    Args:
        model: the fp32 graph, with its weights beside it.
        tensors: names of tensors (batch, sequence, channels); rows of padding (attention_mask 0) do not count.
        feeds: inputs of the graph, one mapping per batch.
        engine: what runs it.
        progress: called with the share done.
        changed: what is run instead, with the weights of `model`, its own not loaded; None runs the model as it is.

    Returns:
        Name of the tensor → its statistics.

    Raises:
        ProviderError: the engine cannot open the graph.
    """
    graph = changed or onnx.load(str(model), load_external_data=False)
    known = {value.name for value in graph.graph.output}
    graph.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    found: dict[str, TensorStatistics] = {}
    waiting: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    tokens = 0
    with opened_beside(model, graph, engine) as session:
        for index, feed in enumerate(feeds):
            mask = feed.get("attention_mask")
            most = 0
            for name, value in zip(tensors, session.run(list(tensors), feed), strict=True):
                if mask is not None and value.shape[:2] == mask.shape:
                    rows = value[mask.astype(bool)]
                else:
                    rows = value.reshape(-1, value.shape[-1])
                waiting[name].append(rows)
                most = max(most, len(rows))
            tokens += most
            if tokens >= _TOKENS_AT_ONCE or index == len(feeds) - 1:
                for name, parts in waiting.items():
                    _add(found, name, np.concatenate(parts))
                waiting.clear()
                tokens = 0
            progress((index + 1) / len(feeds))
    return found


def _add(found: dict[str, TensorStatistics], name: str, rows: NDArray[np.float32]) -> None:
    origin = found[name].origin if name in found else rows.mean(axis=0)
    centred = rows - origin
    lowest, highest, moments = rows.min(axis=0), rows.max(axis=0), centred.T @ centred
    sums = centred.sum(axis=0, dtype=np.float64)
    if name not in found:
        found[name] = TensorStatistics(lowest, highest, len(rows), origin, sums, moments)
        return
    known = found[name]
    known.lowest = np.minimum(known.lowest, lowest)
    known.highest = np.maximum(known.highest, highest)
    known.rows += len(rows)
    known.sums += sums
    known.moments += moments
