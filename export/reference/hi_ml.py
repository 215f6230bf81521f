"""hi-ml-multimodal, which is imported where CXR-BERT or BioViL is exported and nowhere else."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from runtime.errors import MissingExtraError

__all__ = ["hi_ml"]


def hi_ml(module: str) -> Any:
    """A module of the package.

    Args:
        module: its name below `health_multimodal`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it imports timm by a name that is going
            return importlib.import_module(f"health_multimodal.{module}")
    except ImportError as error:
        missing = "hi-ml-multimodal" if (error.name or "").startswith("health_multimodal") else error.name
        raise MissingExtraError("Building the reference model", missing or str(error), "export") from error
