"""From a source to tensors: find a checkpoint's files, look at what they are, check their digests, read them.

Code from a checkpoint is never run. Imports `families`, `reference`, `samples`, `errors` and
`runtime`.
"""

from export.checkpoints.fit import ExpectedTensors, fit_tensors
from export.checkpoints.opening import RANDOM_MARKER, TEXT_WEIGHTS, Checkpoint, open_checkpoint
from export.checkpoints.weights import read_tensors

__all__ = [
    "RANDOM_MARKER",
    "TEXT_WEIGHTS",
    "Checkpoint",
    "ExpectedTensors",
    "fit_tensors",
    "open_checkpoint",
    "read_tensors",
]
