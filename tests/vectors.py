"""Vectors for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """float32 (N, D) of unit L2 norm, in the direction of the rows."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
