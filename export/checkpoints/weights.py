"""Tensors of a weights file, or of the shards that an index names, without running anything in them."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from export.checkpoints.signatures import PICKLE, SAFETENSORS, read_json, require, unreadable
from export.errors import CheckpointError
from runtime.process.wording import few

__all__ = ["INDEX", "read_shards", "read_tensors", "read_weights", "shard_names"]

# The end of the name of a file that says which shard holds which tensor.
INDEX = ".index.json"
# Where training programs keep the weights in what they save: Lightning, plain loops, DeepSpeed and others.
_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights")
_NESTED = 4
_SAVE_ALONE = (
    "Where it was trained and is trusted, save the weights alone and give that file instead: "
    "torch.save(model.state_dict(), 'pytorch_model.bin')."
)


def _silent(_: str) -> None:
    """The note of a caller who wants none."""


def read_tensors(path: Path, note: Callable[[str], None] = _silent) -> dict[str, torch.Tensor]:
    """Read a weights file without running anything in it.

    Args:
        path: safetensors, or a pickled state dict, read with `weights_only=True`; the first bytes decide which, not
            the name. A state dict may lie in what a training program saved, such as Lightning's "state_dict".
        note: called with a line for the user where something was unwrapped, left out or converted.

    Returns:
        Tensor name → tensor on the CPU; floating-point tensors as float32.

    Raises:
        CheckpointError: not a state dict, damaged, another tool's weights, an adapter, or a pickle that wants to run
            code.
    """
    return _converted(_read(path, note), path.name, note)


def read_weights(path: Path, note: Callable[[str], None] = _silent) -> dict[str, torch.Tensor]:
    """`read_tensors` of a file, `read_shards` of an index."""
    return read_shards(path, note) if path.name.endswith(INDEX) else read_tensors(path, note)


def shard_names(index: Path) -> dict[str, list[str]]:
    """The shards that an index names, each with the names of its tensors.

    Raises:
        CheckpointError: the index is not valid, or names files outside its folder or that are not there.
    """
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError(f'{index} has no usable "weight_map" (from names of tensors to names of shards).')
    outside = sorted({name for name in placed.values() if name in ("", ".", "..") or re.search(r"[/\\:\x00]", name)})
    if outside:
        raise CheckpointError(f"{index} names shards that are no files beside it: {few(map(repr, outside))}.")
    shards: dict[str, list[str]] = {}
    for tensor, name in placed.items():
        shards.setdefault(name, []).append(tensor)
    missing = [name for name in sorted(shards) if not (index.parent / name).exists()]
    if missing:
        raise CheckpointError(
            f"{index} names {len(shards)} shards, of which {len(missing)} are missing: {few(missing)}. Fetch them."
        )
    return dict(sorted(shards.items()))


def read_shards(index: Path, note: Callable[[str], None] = _silent) -> dict[str, torch.Tensor]:
    """Read all shards that an index names; each must hold the tensors that the index says, no others.

    Args:
        index: see `shard_names`.
        note: see `read_tensors`.

    Raises:
        CheckpointError: see `shard_names` and `read_tensors`; or shards hold other tensors.
    """
    shards = shard_names(index)
    tensors: dict[str, torch.Tensor] = {}
    faults = []
    for name, expected in shards.items():
        found = _read(index.parent / name, note)
        if lost := sorted(set(expected) - found.keys()):
            faults.append(f"{name} lacks {few(lost)}")
        if extra := sorted(found.keys() - set(expected)):
            faults.append(f"{name} holds {few(extra)}, which the index does not place there")
        tensors |= found
    if faults:
        raise CheckpointError(f"{index} does not fit its shards: {'; '.join(faults)}. They are of different saves.")
    return _converted(tensors, index.name, note)


def _read(path: Path, note: Callable[[str], None]) -> Mapping[str, torch.Tensor]:
    if require(path, PICKLE, SAFETENSORS) == SAFETENSORS:
        return _checked(_load_safetensors(path), path)
    return _checked(_unwrapped(_load_pickle(path), path.name, note), path)


def _load_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # the Rust reader raises its own types
        raise CheckpointError(f"{path} cannot be read as plain weights: {_line(error)}") from error


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as stream:  # of a path, torch looks at the name
            return torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # unpickling raises anything
        # torch's own message recommends to load the file without this protection; it is never passed on.
        raise CheckpointError(f"{path} cannot be read as plain weights: {_why(path, error)}") from None


def _why(path: Path, error: Exception) -> str:
    """What about a pickle was refused, in words."""
    objects: list[str] = []
    lightning = False
    try:
        objects = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        with zipfile.ZipFile(path) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            lightning = b"pytorch-lightning_version" in archive.read(pickled)
    except Exception:  # older torch, an old kind of file, or one that is damaged: the message says what is known
        pass
    if not objects:
        objects = re.findall(r"(?:GLOBAL|class|global) ([\w.]+\.[\w.]+)", str(error))
        objects = [
            name for name in dict.fromkeys(objects) if not name.startswith(("torch.serialization", "torch.load"))
        ]
    what = "it is a checkpoint of PyTorch Lightning whose hyper-parameters or states hold" if lightning else "it holds"
    if objects:
        what = f"{what} Python objects beside tensors ({few(objects)}), whose loading may run code; none was run."
        return f"{what} {_SAVE_ALONE}"
    return "it is damaged or no file of torch.save. Fetch it again."


def _unwrapped(loaded: Any, name: str, note: Callable[[str], None]) -> Any:
    """The state dict in what a training program saved."""
    for _ in range(_NESTED):
        if not isinstance(loaded, Mapping) or not loaded or _is_state_dict(loaded):
            return loaded
        found = [key for key in _CONTAINERS if isinstance(loaded.get(key), Mapping) and loaded[key]]
        if not found:
            return loaded
        if len(found) > 1:
            raise CheckpointError(
                f"{name} holds several sets of weights: {few(map(repr, found))}. Save the one to export alone, with "
                "torch.save."
            )
        others = [str(key) for key in loaded if key != found[0]]
        left = f"; left out: {few(others)}" if others else ""
        note(f"{name} is what a training program saved: its weights are taken from {found[0]!r}{left}")
        loaded = loaded[found[0]]
    return loaded


def _is_state_dict(loaded: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, torch.Tensor) for value in loaded.values())


def _checked(tensors: Any, path: Path) -> Mapping[str, torch.Tensor]:
    """Raise unless these are plain tensors with names."""
    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise CheckpointError(f"{path} is not a state dict (a mapping from names to tensors): {_kind(tensors)}.")
    if not tensors:
        raise CheckpointError(f"{path} is a state dict without tensors.")
    other = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise CheckpointError(
            f"{path} is not a state dict (a mapping from names to tensors): {few(other)} "
            f"{'is no tensor' if len(other) == 1 else 'are no tensors'}. Save model.state_dict() alone."
        )
    if adapters := [name for name in tensors if re.search(r"\.(lora_|base_layer\.|ia3_)|^base_model\.model\.", name)]:
        raise CheckpointError(
            f"{path} holds a LoRA or PEFT adapter ({few(adapters)}), which changes another model's weights. "
            "Merge the two first: PeftModel.from_pretrained(MODEL, ADAPTER).merge_and_unload().save_pretrained(NEW)."
        )
    unusable = [
        f"{name} ({'without data' if value.is_meta else str(value.dtype if value.is_quantized else value.layout)})"
        for name, value in tensors.items()
        if value.is_meta or value.is_quantized or value.layout != torch.strided or value.is_nested
    ]
    if unusable:
        raise CheckpointError(f"{path} holds tensors that are no plain arrays: {few(unusable)}. Save them dense.")
    return tensors


def _converted(tensors: Mapping[str, torch.Tensor], name: str, note: Callable[[str], None]) -> dict[str, torch.Tensor]:
    """Floating-point tensors as float32; a conversion is said, with the number of tensors."""
    others = Counter(
        str(value.dtype).removeprefix("torch.")
        for value in tensors.values()
        if value.is_floating_point() and value.dtype != torch.float32
    )
    for dtype, count in others.items():
        if dtype.startswith("float8"):
            raise CheckpointError(
                f"{name} holds {count} tensors of type {dtype}: a quantized checkpoint. Give the one in float32, "
                "float16 or bfloat16 that it was made from."
            )
        loss = ", rounded" if dtype == "float64" else ""
        note(f"{name}: {count} {dtype} tensors are read as float32{loss}")
    return {key: value.detach().float() if value.is_floating_point() else value for key, value in tensors.items()}


def _kind(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return "its keys are no names"
    return f"it holds a {type(loaded).__name__}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
