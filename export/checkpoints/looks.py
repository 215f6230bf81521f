"""Which system a folder looks like, by names of files and what its configuration says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.checkpoints.layouts import TEXT_WEIGHTS, open_clip, transformers_clip
from export.checkpoints.signatures import read_json
from export.errors import CheckpointError
from export.families import FAMILIES, Family

__all__ = ["check_look", "look_hint", "looks_like"]

_CONFIG = "config.json"
_LIGHTNING = re.compile(r".*\.ckpt")


def looks_like(folder: Path, names: set[str]) -> tuple[str, ...]:
    """The families whose checkpoint a folder may hold, the likeliest first; empty where nothing is known of it.

    Nothing but names and configuration files is read.

    Args:
        folder: of the checkpoint.
        names: of the files in it.
    """
    found: list[str] = []
    found += [each.name for each in FAMILIES.values() if each.image and each.image.weights_name in names]
    if open_clip.CONFIG in names:
        found += _of_open_clip(_config(folder / open_clip.CONFIG))
    lightning = ["gloria"] if any(_LIGHTNING.fullmatch(name) for name in names) else []
    # Beside it a BERT's files may be those of its tokenizer alone.
    found += [] if names & {*TEXT_WEIGHTS} else lightning
    if _CONFIG in names:
        found += _of_transformers(_config(folder / _CONFIG))
    found += lightning
    return tuple(dict.fromkeys(found))


def check_look(folder: Path, names: set[str], family: Family) -> None:
    """Refuse a folder that holds another system's checkpoint in another layout.

    Args:
        folder: of the checkpoint.
        names: of the files in it.
        family: what was asked for.

    Raises:
        CheckpointError: it looks like other systems; they are named.
    """
    found = looks_like(folder, names)
    if not found or family.name in found or any(_alike(FAMILIES[name], family) for name in found if name in FAMILIES):
        return
    likeliest = found[0]
    raise CheckpointError(
        f"{folder} holds no '{family.name}' checkpoint: it looks like '{likeliest}' ({_signs(folder, names)}). "
        f"Export it with: python -m export {likeliest} --checkpoint {folder}"
    )


def look_hint(folder: Path, names: set[str], family: Family) -> str:
    """Which system a folder that cannot be read as a family's looks like, as a sentence after a space, or ""."""
    found = looks_like(folder, names)
    return f" It looks like a checkpoint of '{found[0]}'." if found and family.name not in found else ""


def _alike(one: Family, other: Family) -> bool:
    """Whether both lie in folders in the same way, so that what differs is found where the files are read."""
    return one.layout == other.layout and (one.text is None) == (other.text is None)


def _of_open_clip(config: Mapping[str, Any]) -> list[str]:
    model = config.get("model_cfg", config)
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(text, dict):
        return ["clip"]
    return ["biomedclip", "clip"] if "BERT" in str(text.get("hf_model_name", "")).upper() else ["clip"]


def _of_transformers(config: Mapping[str, Any]) -> list[str]:
    kind = config.get("model_type")
    if kind == "clip":
        vision = transformers_clip.towers(config)[1]
        size = config.get("projection_dim", 512)
        fitting = [
            name
            for name, each in FAMILIES.items()
            if each.layout == "clip"
            and each.hub
            and each.image
            and each.text
            and each.text.pooling == "eos"
            and (each.image.patch, each.image.embedding_size) == (vision["patch_size"], size)
        ]
        return [*fitting, "clip"]
    if kind == "convirt":
        return [kind]
    if kind == "cxr-bert":
        return ["cxr-bert-specialized" if "projection_size" in config else "cxr-bert-general"]
    if kind == "bert" or (kind is None and "hidden_size" in config):
        return ["cxr-bert-specialized", "biovil-t", "bert"] if "projection_size" in config else ["bert"]
    return []


def _config(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it cannot be read, which is for those to say who need it."""
    try:
        return read_json(path)
    except CheckpointError:
        return {}


def _signs(folder: Path, names: set[str]) -> str:
    """What it was recognised by."""
    if open_clip.CONFIG in names:
        return f"{open_clip.CONFIG} is there"
    weights = sorted(name for name in names if _LIGHTNING.fullmatch(name) or name.endswith(".pt"))
    kind = _config(folder / _CONFIG).get("model_type") if _CONFIG in names else None
    said = [f"config.json says model_type {kind!r}"] if kind else []
    return " and ".join([*said, *(f"{name} is there" for name in weights[:1])]) or "by its files"
