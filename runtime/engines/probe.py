"""Does an engine compute here? A graph of two operators, opened and run in a process of its own.

An engine built for another processor ends its process, so it is not asked in ours.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

import numpy as np

from runtime.process import print_json
from runtime.process.apart import ask_apart

__all__ = ["INPUT", "MODEL", "OUTPUT", "probe", "probe_apart"]

# ONNX, opset 18: y = Relu(x · [[1, 2], [3, -4]]), float32 (batch, 2). A test reads it with the package onnx.
MODEL = base64.b64decode(
    "CAkSADp5ChEKAXgKAXcSAXAiBk1hdE11bAoMCgFwEgF5IgRSZWx1EgVwcm9iZSobCAIIAhABQgF3ShAAAIA/AAAAQAAAQEAAAIDA"
    "WhgKAXgSEwoRCAESDQoHEgViYXRjaAoCCAJiGAoBeRITChEIARINCgcSBWJhdGNoCgIIAkIECgAQEg=="
)
INPUT = ((1.0, 1.0), (0.5, -2.0), (-1.0, 0.25))
OUTPUT = ((4.0, 0.0), (0.0, 9.0), (0.0, 0.0))
_LARGEST_DIFFERENCE = 1e-3
# TensorRT builds an engine even for this.
_SECONDS = 120


def probe(name: str) -> str | None:
    """Run the graph with an engine, in this process. Returns what went wrong, or None."""
    from runtime.engines.providers import PROVIDERS
    from runtime.engines.session import SessionOptions

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "probe.onnx"
        model.write_bytes(MODEL)
        try:
            session = PROVIDERS[name].open(model, SessionOptions(threads=1, precision="fp32"))
            (found,) = session.run(["y"], {"x": np.array(INPUT, dtype=np.float32)})
        except Exception as error:  # whatever an engine raises is the answer
            return f"{type(error).__name__}: {error}"
    expected = np.array(OUTPUT, dtype=np.float32)
    if found.shape != expected.shape or not np.abs(found - expected).max() <= _LARGEST_DIFFERENCE:
        return f"it computes {found.tolist()} where {expected.tolist()} is right"
    return None


def probe_apart(name: str) -> str | None:
    """Run the graph with an engine, in a process of its own. Returns what went wrong, or None."""
    answer, fault = ask_apart("runtime.engines.probe", [name], _SECONDS)
    if answer is None:
        return fault
    found: str | None = answer.get("fault", "its process does not say whether it computes")
    return found


if __name__ == "__main__":
    print_json({"fault": probe(sys.argv[1])}, indent=None)
