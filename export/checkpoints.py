"""Find a checkpoint's files, check their digests, load the tensors. Code from a checkpoint is never run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from export.errors import CheckpointError
from export.families import Family, TextModel
from export.hub import download, looks_like_hub_id
from export.random_checkpoint import RANDOM_MARKER, write_random_checkpoint
from runtime.bundle import sha256_file
from runtime.manifest import Source

__all__ = ["TEXT_WEIGHTS", "Checkpoint", "ExpectedTensors", "fit_tensors", "open_checkpoint", "read_tensors"]

# Read in this order of preference.
TEXT_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TEXT_FILES = ("config.json", "vocab.txt", "tokenizer_config.json")
_CONFIG_NUMBERS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, found and read.

    Attributes:
        folder: where they lie.
        source: where they came from, for the manifest.
        config: the parsed config.json; empty without a text model.
        tensors: "text" and "image" → tensor name → tensor.
    """

    folder: Path
    source: Source
    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class ExpectedTensors:
    """What a model needs of a checkpoint.

    Attributes:
        state: the model's state dict; names and shapes count.
        harmless: prefixes of tensors that may be absent or additional.
        tied: tensors that may be absent, and which tensor each must equal where it is present.
    """

    state: Mapping[str, torch.Tensor]
    harmless: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)


def open_checkpoint(
    source: str, family: Family, work: Path, *, seed: int = 0, revision: str | None = None
) -> Checkpoint:
    """Find and read a checkpoint.

    Args:
        source: a local folder in the hub's layout, a hub id ("organisation/name"), or "random".
        family: what the checkpoint must hold.
        work: a folder for temporary files.
        seed: seed of random weights.
        revision: hub revision; None takes the pinned one of the family's repository, "main" of any other.

    Raises:
        CheckpointError: no such checkpoint, files missing, a digest that differs, files that cannot be read safely.
    """
    path = Path(source)
    commit = None
    if source == "random":
        kind, name = "random", "random"
        folder = write_random_checkpoint(work / "random-checkpoint", family, seed)
    elif path.is_dir():
        kind, name, folder = "folder", path.resolve().name, path
        if (folder / RANDOM_MARKER).is_file():
            kind, name, seed = "random", "random", _random_seed(folder / RANDOM_MARKER)
    elif looks_like_hub_id(source) and not path.exists():
        kind, name = "hub", source
        if revision is None:
            revision = family.hub.revision if source == family.hub.repo else "main"
        folder, commit = download(source, revision, _wanted_files(family))
    else:
        raise CheckpointError(
            f"'{source}' is no checkpoint: expected a folder in the hub's layout, a hub id such as {family.hub.repo}, "
            "or 'random'."
        )
    weights, config = _find_files(folder, family)
    digests = {file.name: sha256_file(file) for file in weights.values()}
    published = _check_published(weights.get("image"), family, kind, source)
    tensors = {part: read_tensors(file) for part, file in weights.items()}
    return Checkpoint(
        folder,
        Source(
            kind=kind,
            name=name,
            revision=revision if kind == "hub" else None,
            commit=commit,
            seed=seed if kind == "random" else None,
            weights=digests,
            published=published,
        ),
        config,
        tensors,
    )


def _random_seed(marker: Path) -> int:
    try:
        return int(json.loads(marker.read_text(encoding="utf-8"))["seed"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{marker} is not valid: {error!r}. Delete it if the weights are not random.") from None


def _wanted_files(family: Family) -> list[str]:
    wanted: list[str] = []
    if family.text:
        wanted += [*_TEXT_FILES, "special_tokens_map.json", *TEXT_WEIGHTS]
    if family.image:
        wanted.append(family.image.weights_name)
    return wanted


def _find_files(folder: Path, family: Family) -> tuple[dict[str, Path], dict[str, Any]]:
    """The weights file of each part, and the parsed config; every missing file is listed at once."""
    faults: list[str] = []
    weights: dict[str, Path] = {}
    config: dict[str, Any] = {}
    if family.text:
        faults += [name for name in _TEXT_FILES if not (folder / name).is_file()]
        found = [folder / name for name in TEXT_WEIGHTS if (folder / name).is_file()]
        if found:
            weights["text"] = found[0]
        else:
            faults.append(" or ".join(TEXT_WEIGHTS))
    if family.image:
        weights["image"] = folder / family.image.weights_name
        if not weights["image"].is_file():
            faults.append(family.image.weights_name)
    if faults:
        raise CheckpointError(
            f"{folder} does not hold a '{family.name}' checkpoint. Missing: {', '.join(faults)}. "
            f"The layout expected is that of {family.hub.repo} on the hub."
        )
    if family.text:
        config = _read_config(folder / "config.json", family.text)
    return weights, config


def _read_config(path: Path, text: TextModel) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict) or config.get("model_type") not in text.model_types:
        came = config.get("model_type") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(
            f"{path} describes a model of type {came!r}; {' or '.join(map(repr, text.model_types))} is expected."
        )
    numbers = (*_CONFIG_NUMBERS, "projection_size") if text.projection else _CONFIG_NUMBERS
    wrong = [key for key in numbers if type(config.get(key)) is not int or config[key] < 1]
    if not isinstance(config.get("layer_norm_eps", 1e-12), float):
        wrong.append("layer_norm_eps")
    if wrong:
        raise CheckpointError(f"{path} lacks usable numbers for: {', '.join(wrong)}.")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise CheckpointError(
            f"{path}: hidden_size={config['hidden_size']} cannot be divided into "
            f"num_attention_heads={config['num_attention_heads']}."
        )
    positions = config.get("position_embedding_type", "absolute")
    if config.get("hidden_act") != "gelu" or positions != "absolute":
        raise CheckpointError(
            f"{path} asks for hidden_act={config.get('hidden_act')!r} and position_embedding_type={positions!r}; "
            "only 'gelu' and 'absolute', as in CXR-BERT, are exported."
        )
    return config


def _check_published(weights: Path | None, family: Family, kind: str, source: str) -> bool | None:
    if weights is None or family.image is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    digest.update(weights.read_bytes())
    matches = digest.hexdigest() == family.image.weights_md5
    if kind == "hub" and source == family.hub.repo and not matches:
        raise CheckpointError(
            f"{weights.name} from {source} has md5 {digest.hexdigest()}; the published file has "
            f"{family.image.weights_md5}. The download is damaged or the file was replaced: delete it from the hub's "
            "cache and try again."
        )
    return matches


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a weights file without running anything in it.

    Args:
        path: a .safetensors file, or a pickled state dict (.bin, .pt), read with `weights_only=True`.

    Returns:
        Tensor name → tensor on the CPU; floating-point tensors as float32.

    Raises:
        CheckpointError: not a state dict, damaged, or a pickle that wants to run code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors: Any = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything
        raise CheckpointError(f"{path.name} cannot be read as plain weights: {error}") from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path.name} is not a state dict (a mapping from names to tensors).")
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def fit_tensors(
    found: Mapping[str, Mapping[str, torch.Tensor]], expected: Mapping[str, ExpectedTensors]
) -> dict[str, dict[str, torch.Tensor]]:
    """Compare a checkpoint's tensors with the models'.

    Args:
        found: part → the checkpoint's tensors.
        expected: part → what its model needs.

    Returns:
        part → the tensors to load: those of the model that the checkpoint has.

    Raises:
        CheckpointError: tensors missing, unexpected, of a wrong shape, with NaN or infinity, or tied tensors that
            differ; those of all parts are listed together, by name.
    """
    faults = [f"{part}: {fault}" for part, wanted in expected.items() for fault in _faults(found[part], wanted)]
    if faults:
        raise CheckpointError(f"The weights do not fit the model, {len(faults)} faults:\n  " + "\n  ".join(faults))
    return {
        part: {name: found[part][name] for name in wanted.state if name in found[part]}
        for part, wanted in expected.items()
    }


def _faults(found: Mapping[str, torch.Tensor], expected: ExpectedTensors) -> list[str]:
    state, harmless = expected.state, tuple(expected.harmless)
    faults = []
    for name in sorted(state.keys() | found.keys()):
        if name not in found:
            if name not in expected.tied and not name.startswith(harmless):
                faults.append(f"missing     {name} {tuple(state[name].shape)}")
        elif name not in state:
            if not name.startswith(harmless):
                faults.append(f"unexpected  {name} {tuple(found[name].shape)}")
        elif found[name].shape != state[name].shape:
            faults.append(f"wrong shape {name} {tuple(found[name].shape)}, expected {tuple(state[name].shape)}")
        elif not bool(torch.isfinite(found[name]).all()):
            faults.append(f"not finite  {name} holds NaN or infinity")
        elif expected.tied.get(name) in found and not torch.equal(found[name], found[expected.tied[name]]):
            faults.append(f"not tied    {name} differs from {expected.tied[name]}")
    return faults
