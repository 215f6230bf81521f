"""Which engine, precision and settings: from the bundle's records, from measuring here, and how to tell the user.

Imports `process`, `files`, `engines`, `bundle`, `text` and `image`.
"""

from runtime.choice.precision import MIN_FIDELITY, Choice, choose_precision

__all__ = ["MIN_FIDELITY", "Choice", "choose_precision"]
