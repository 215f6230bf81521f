"""What the tests of files and pixels share."""

from __future__ import annotations

import numpy as np
import pytest

from export.samples import chest_phantom


@pytest.fixture
def film() -> np.ndarray:
    """Stored values of 12 bits, uint16 (90, 70)."""
    return chest_phantom(90, 70).astype(np.uint16) * 16 + 3
