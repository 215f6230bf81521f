"""What a graph's tensors look like on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from runtime.providers import Provider, default_threads
from runtime.session import SessionOptions

__all__ = ["TensorStatistics", "collect_statistics"]

_SAMPLE_ROWS = 1024


@dataclass
class TensorStatistics:
    """Statistics of one tensor over its last axis.

    Attributes:
        lowest: float32 (channels,); highest alike.
        moments: float32 (channels, channels), the sum of xᵀx over all rows x.
        sample: float32 (rows, channels), some rows, drawn evenly.
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    moments: NDArray[np.float32]
    sample: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @property
    def largest(self) -> NDArray[np.float32]:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.lowest), np.abs(self.highest))


def collect_statistics(
    model: Path,
    tensors: Sequence[str],
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    engine: Provider,
    total: int,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, TensorStatistics]:
    """Run a graph on calibration data and gather statistics of inner tensors.

    Args:
        model: the fp32 graph, with its weights beside it.
        tensors: names of tensors (batch, sequence, channels); rows of padding (attention_mask 0) do not count.
        feeds: inputs of the graph, one mapping per batch.
        engine: what runs it.
        total: number of batches, for the progress.
        progress: called with the share done.
    """
    graph = onnx.load(str(model), load_external_data=False)
    known = {value.name for value in graph.graph.output}
    graph.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors if name not in known
    )
    # Beside the original: the graph's weights lie there. The name is that of no artifact.
    watched = model.with_name(f".{model.stem}.watched.onnx")
    try:
        onnx.save(graph, str(watched))
        session = engine.open(watched, SessionOptions(threads=default_threads(), precision="fp32"))
        found: dict[str, TensorStatistics] = {}
        samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
        for index, feed in enumerate(feeds):
            mask = feed["attention_mask"].astype(bool)
            for name, value in zip(tensors, session.run(list(tensors), feed), strict=True):
                rows = value[mask] if value.shape[:2] == mask.shape else value.reshape(-1, value.shape[-1])
                _add(found, name, rows)
                step = max(1, len(rows) * total // _SAMPLE_ROWS)
                samples[name].append(rows[index % step :: step].copy())
            progress((index + 1) / total)
        del session
    finally:
        watched.unlink(missing_ok=True)
    for name, parts in samples.items():
        found[name].sample = np.concatenate(parts)
    return found


def _add(found: dict[str, TensorStatistics], name: str, rows: NDArray[np.float32]) -> None:
    lowest, highest, moments = rows.min(axis=0), rows.max(axis=0), rows.T @ rows
    if name not in found:
        found[name] = TensorStatistics(lowest, highest, moments)
        return
    known = found[name]
    known.lowest = np.minimum(known.lowest, lowest)
    known.highest = np.maximum(known.highest, highest)
    known.moments += moments
