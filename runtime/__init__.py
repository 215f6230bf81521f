"""CXR-BERT and the BioViL image encoder, run from a checked bundle of ONNX files. No torch, no transformers.

    import runtime

    engine = runtime.load("bundles/biovil")
    engine.text.encode(["No pleural effusion."])              # float32 (1, 128)
    engine.text.fill_mask("Moderate [MASK] pleural effusion") # [{"score", "token", "token_str", "sequence"}, …]
    engine.image.encode(["chest.dcm"])                        # float32 (1, 128)
    engine.similarity("chest.dcm", "left pleural effusion")   # float in [-1, 1]
    engine.similarity_map("chest.dcm", "left basal opacity")  # float32 (H, W)
    engine.ground("chest.dcm", "left basal opacity")          # map, score and crop from one run
    engine.classify("chest.dcm", "chexpert")                  # {label: probability}, zero-shot
    engine.classify("chest.dcm", ["Edema", "Pneumonia"], templates="chexzero")      # of labels alone

Research use only: not for clinical decisions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from runtime.engine import Engine
from runtime.errors import BundleError, CxrEngineError, Fault, InputError, MissingExtraError, ProviderError
from runtime.loading import load
from runtime.process.version import __version__
from runtime.text import TextEncoder

if TYPE_CHECKING:
    from runtime.image.encoder import ImageEncoder
    from runtime.retrieval.build import build_index
    from runtime.retrieval.index import Found, Index, open_index
    from runtime.tasks.grounding import Box, Grounding, GroundingScores, score_grounding
    from runtime.text.fill_mask import Filled
    from runtime.text.masked_accuracy import MaskedAccuracy

__all__ = [
    "Box",
    "BundleError",
    "CxrEngineError",
    "Engine",
    "Fault",
    "Filled",
    "Found",
    "Grounding",
    "GroundingScores",
    "ImageEncoder",
    "Index",
    "InputError",
    "MaskedAccuracy",
    "MissingExtraError",
    "ProviderError",
    "TextEncoder",
    "__version__",
    "build_index",
    "load",
    "open_index",
    "score_grounding",
]


# Texts need no Pillow, which takes longer to import than a text to embed; few need the tasks.
_IMPORTED_LATER = {
    "Box": "runtime.tasks.grounding",
    "Filled": "runtime.text.fill_mask",
    "Found": "runtime.retrieval.index",
    "Grounding": "runtime.tasks.grounding",
    "GroundingScores": "runtime.tasks.grounding",
    "ImageEncoder": "runtime.image.encoder",
    "Index": "runtime.retrieval.index",
    "MaskedAccuracy": "runtime.text.masked_accuracy",
    "build_index": "runtime.retrieval.build",
    "open_index": "runtime.retrieval.index",
    "score_grounding": "runtime.tasks.grounding",
}


def __getattr__(name: str) -> Any:
    if name in _IMPORTED_LATER:
        return getattr(importlib.import_module(_IMPORTED_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
