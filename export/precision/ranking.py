"""Which matrix products of a text encoder int8 damages most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.precision.int8 import Group, GroupPlan, TextQuantizer
from export.progress import Steps
from export.proof.fidelity import embed_texts
from runtime.engines import Provider, Session, SessionOptions
from runtime.engines.providers import default_threads

__all__ = ["Plans", "ProductRanking", "operations"]

Plans = Mapping[str, GroupPlan]

# Calibration texts by which the products' damage is compared; the held-out ones only judge.
_TEXTS = 64


def operations(group: Group) -> int:
    """Multiplications of a group's products for one token."""
    return group.shape[0] * group.shape[1]


class ProductRanking:
    """Orders the products of one text encoder; the order is made when it is first asked for, and kept."""

    def __init__(
        self,
        quantizer: TextQuantizer,
        source: Path,
        rows: Sequence[list[int]],
        pad_token_id: int,
        engine: Provider,
        steps: Steps,
    ) -> None:
        """Nothing is measured yet.

        Args:
            quantizer: of the encoder.
            source: the fp32 graph.
            rows: token ids of calibration texts.
            pad_token_id: fills batches.
            engine: what runs both.
            steps: where the time taken is shown.
        """
        self._quantizer = quantizer
        self._source = source
        self._rows = rows[:_TEXTS]
        self._pad_token_id = pad_token_id
        self._engine = engine
        self._steps = steps
        self._ranked: list[Group] | None = None
        self._expected: NDArray[np.float32] | None = None

    def order(self, plans: Plans) -> list[Group]:
        """Groups by how much fidelity leaving each in floating point gains per operation, most first.

        Args:
            plans: group's tensor → how it is computed when the order is first asked for.

        Raises:
            ProviderError: the engine cannot open a graph.
        """
        if self._ranked is None:
            before = self._loss(plans)
            gains: list[tuple[float, Group]] = []
            groups = self._quantizer.groups
            with self._steps.substep(f"text: ranking {len(groups)} products by the damage that int8 does to each"):
                for group in groups:
                    after = self._loss({**plans, group.tensor: replace(plans[group.tensor], quantized=False)})
                    gains.append(((before - after) / operations(group), group))
            self._ranked = [group for _, group in sorted(gains, key=lambda pair: -pair[0])]
        return self._ranked

    def _loss(self, plans: Plans) -> float:
        """1 − mean cosine on the ranking texts."""
        target = self._source.with_name(".ranking.onnx")
        try:
            self._quantizer.write(target, plans)
            found = self._embed(self._engine.open(target, SessionOptions(default_threads(), "int8")))
        finally:
            target.unlink(missing_ok=True)
            target.with_name(f"{target.name}_data").unlink(missing_ok=True)
        if self._expected is None:
            self._expected = self._embed(self._engine.open(self._source, SessionOptions(default_threads(), "fp32")))
        return float(1 - (found * self._expected).sum(axis=-1).mean())

    def _embed(self, session: Session) -> NDArray[np.float32]:
        return embed_texts(session, self._rows, self._pad_token_id)
