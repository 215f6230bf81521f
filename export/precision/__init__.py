"""Lower precisions: half, int8, and the search for the first recipe that holds its tier.

Imports `graphs`, `proof`, `samples` and `runtime`.
"""

from export.precision.lower import Lowering

__all__ = ["Lowering"]
