"""What every peer is: a function from what a worker is told once to one that prepares a case, and that to its run.

What a worker is told (a JSON object): "threads"; "bundle", "provider", "precision" of this engine; "checkpoint", the
folder with the same weights; peers on a GPU "device", PyTorch's name of it, and how many they take at a time there:
"texts" and "images"; those that load images otherwise than the reference "loading", see `bench.peers.loading`.

What a case gives: for texts and masks "texts", strings (with one [MASK] each); for images "images", paths, or "pixels",
a .npy file of uint8 (N, side, side), or (N, 3, side, side) of those that read colours; for joint "image", a path, and
"prompts", a list of label, positive, negative; or of those that compare labels with each other a list of label and
prompt, and "scale", what cosines are multiplied by.

What a run answers: texts and images float32 (N, D), unit norm, in the order given; masks float64 (texts, 2 × `TOP`),
the ids of the best tokens and then their scores; joint float64 (1, labels), the probability of each, or where labels
are compared with each other the cosines that probabilities stand for, less their mean (`relative_cosines`): a scale of
100 would make any bound on a difference of probabilities meaningless.

Peers of CLIP-likes are told "made" and "python" as well, see `bench.peers.clip.making`.

Each peer imports what it needs itself, so that one that is not installed does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AS_THEY_COME",
    "BATCH",
    "PROCESSOR",
    "STRIPPED",
    "TOP",
    "Case",
    "Open",
    "Prepare",
    "Run",
    "Spec",
    "in_batches",
    "masks_answer",
    "relative_cosines",
    "sorted_batches",
]

Spec = Mapping[str, Any]
Case = Mapping[str, Any]
Run = Callable[[], NDArray[Any]]
Prepare = Callable[[Case], Run]
Open = Callable[[Spec], Prepare]

# What an encoder makes of the rows (or texts) at these places.
Embed = Callable[[list[int]], NDArray[Any]]

# What the reference's users do, who take texts as they come; and those who sort them by length: than 32 quicker in
# PyTorch, by a third, while OpenVINO and ONNX Runtime do not mind.
AS_THEY_COME, BATCH = 32, 8
# What PyTorch computes on where nothing is said.
PROCESSOR = "cpu"
TOP = 5
# What the reference strips from the end of a text before it is tokenized.
STRIPPED = "!?."


def masks_answer(filled: Sequence[Sequence[Mapping[str, Any]]]) -> NDArray[np.float64]:
    """The answer about masks, of what a fill-mask pipeline gives."""
    return np.array([[*(each["token"] for each in one), *(each["score"] for each in one)] for one in filled])


def relative_cosines(probabilities: NDArray[Any], scale: float) -> NDArray[np.float64]:
    """The cosines of which a softmax makes these probabilities, less their mean.

    Args:
        probabilities: (N, labels).
        scale: what the cosines were multiplied by.
    """
    logits = np.log(np.asarray(probabilities, np.float64))
    found: NDArray[np.float64] = (logits - logits.mean(axis=1, keepdims=True)) / scale
    return found


def in_batches(count: int, embed: Embed, size: int = AS_THEY_COME) -> NDArray[Any]:
    """Embed in the order given."""
    return np.concatenate([embed(list(range(start, min(count, start + size)))) for start in range(0, count, size)])


def sorted_batches(lengths: Sequence[int], embed: Embed, size: int = BATCH) -> NDArray[Any]:
    """Embed in the order of lengths, so that little is padded; the answer is in the order given."""
    order = np.argsort(lengths, kind="stable")
    answer = None
    for start in range(0, len(order), size):
        places = order[start : start + size].tolist()
        found = embed(places)
        answer = np.empty((len(order), found.shape[1]), found.dtype) if answer is None else answer
        answer[places] = found
    assert answer is not None, "at least one"
    return answer
