"""A BERT's files as transformers and sentence-transformers write them, and hi-ml's image model beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from export.checkpoints.axes import read_axes
from export.checkpoints.config import read_config
from export.checkpoints.layouts.layout import Layout, Opened, Tensors, missing_files
from export.checkpoints.modules import MODULE_FILES, MODULES, read_modules
from export.checkpoints.places import example_repository, folder_names, found_instead
from export.checkpoints.vocabulary import TOKENIZER_FILES
from export.checkpoints.weights import INDEX
from export.families import Family, JointModel

__all__ = ["HI_ML", "TEXT_WEIGHTS"]

# Read in this order of preference, which is transformers'.
TEXT_WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
SHARDS = ("model-*.safetensors", "pytorch_model-*.bin")


def _wanted(family: Family) -> list[str]:
    """Patterns of names."""
    wanted: list[str] = []
    if family.text:
        wanted += ["config.json", *TOKENIZER_FILES, *TEXT_WEIGHTS, *SHARDS, "adapter_config.json"]
        wanted += MODULE_FILES if family.text.modules else [MODULES]
    if family.image:
        wanted.append(family.image.weights_name)
    return wanted


def _find_files(folder: Path, names: set[str], family: Family, cached: str | None) -> dict[str, Path]:
    """The weights file, or index of weights files, of each part; every missing file is listed at once.

    Args:
        folder: where they lie.
        names: of the files in it.
        family: what they must hold.
        cached: what the folder is the hub's cache of, as options of the hub's own program; else None.
    """
    faults: list[str] = []
    found: dict[str, Path] = {}
    if family.text:
        if "config.json" not in names:
            faults.append("config.json")
        if "tokenizer.json" not in names:
            faults += ["tokenizer.json or vocab.txt"] if "vocab.txt" not in names else []
            silent = family.text.silent_tokenizer or "tokenizer_config.json" in names
            faults += [] if silent else ["tokenizer_config.json"]
        weights = [name for name in TEXT_WEIGHTS if name in names]
        if weights:
            found["text"] = folder / weights[0]
        else:
            faults.append("model.safetensors or pytorch_model.bin")
    if family.image:
        found["image"] = folder / family.image.weights_name
        if family.image.weights_name not in names:
            faults.append(family.image.weights_name)
    if faults:
        layout = f"The layout expected is that of {example_repository(family)} on the hub."
        raise missing_files(folder, family.name, faults, layout, cached, found_instead(folder, names))
    return found


def _open(folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]) -> Opened:
    modules = read_modules(folder) if family.text and family.text.modules and MODULES in names else None
    if modules is not None and modules.folder != folder:
        folder = modules.folder
        names = folder_names(folder)
    files = _find_files(folder, names, family, cached)
    config = read_config(folder / "config.json", family.text) if family.text else {}
    text = read_axes(folder, config, family.text, modules, note) if family.text else None
    return Opened(folder, files, config, text, family.image, modules.dense if modules else None, config)


def _joint(family: Family, tensors: Mapping[str, Tensors]) -> JointModel | None:
    return family.joint


HI_ML = Layout(_wanted, _open, _joint)
