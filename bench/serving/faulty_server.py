"""`python -m runtime …` whose engine raises for marked texts: `python -m bench.serving.faulty_server serve BUNDLE …`.

A text is marked by a run of token ids, which the environment names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.__main__ import main
from runtime.engines.onnxruntime_session import OnnxRuntimeSession
from runtime.engines.openvino_session import OpenVinoSession

__all__ = ["MARK", "marked"]

# The variable that holds the ids, separated by commas.
MARK = "CXR_BENCH_MARK"

Run = Callable[[Any, Sequence[str], Mapping[str, NDArray[Any]]], list[NDArray[np.float32]]]


def marked(input_ids: NDArray[Any], mark: Sequence[int]) -> bool:
    """Whether the ids of the mark stand behind each other in a row of int (rows, tokens)."""
    if input_ids.shape[-1] < len(mark):
        return False
    windows = np.lib.stride_tricks.sliding_window_view(input_ids, len(mark), axis=-1)
    return bool((windows == np.asarray(mark)).all(-1).any())


def _raising(run: Run, mark: Sequence[int]) -> Run:
    def faulty(session: Any, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        if "input_ids" in inputs and marked(inputs["input_ids"], mark):
            raise RuntimeError("the engine fails at a marked text, as it was told to")
        return run(session, outputs, inputs)

    return faulty


if __name__ == "__main__":
    ids = [int(each) for each in os.environ[MARK].split(",")]
    for kind in (OnnxRuntimeSession, OpenVinoSession):
        setattr(kind, "run", _raising(kind.run, ids))  # noqa: B010 (a method is assigned)
    sys.exit(main())
