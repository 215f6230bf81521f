"""Folders of sentence-transformers: what its modules say of pooling, prompts and the longest input.

Source: sentence-transformers, `Transformer`, `Pooling`, `Dense` and `Normalize`, and what `SentenceTransformer` reads
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from export.checkpoints.signatures import read_json, read_list
from export.errors import CheckpointError

__all__ = ["MODULES", "MODULE_FILES", "DenseModule", "Modules", "read_modules"]

MODULES = "modules.json"
# Patterns of what is read of a repository beside the transformer's own files.
MODULE_FILES = (
    MODULES,
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_Pooling/config.json",
    "*_Dense/*",
    "*_Transformer/*",
)
_SETTINGS, _PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_TOKENIZER = "tokenizer_config.json"
# Flags of earlier versions → modes of pooling.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_POOLINGS = ("cls", "mean")
_DENSE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_IDENTITY = "torch.nn.modules.linear.Identity"


@dataclass(frozen=True)
class DenseModule:
    """A linear map behind the pooled state: its sizes, and the file with linear.weight and linear.bias."""

    in_features: int
    out_features: int
    bias: bool
    weights: Path


@dataclass(frozen=True)
class Modules:
    """What the modules say.

    Attributes:
        folder: the transformer's.
        pooling: "cls" or "mean".
        max_length: where texts are cut, in tokens; None where nothing is said.
        lowercase: whether texts are lower-cased before they are tokenized.
        prompts: name → what stands before texts.
        default_prompt: name of the one that stands before all others.
        dense: None without such a module.
    """

    folder: Path
    pooling: str
    max_length: int | None
    lowercase: bool
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dense: DenseModule | None = None


def read_modules(folder: Path) -> Modules:
    """Read modules.json and the files that it names.

    Raises:
        CheckpointError: a file cannot be read, or asks for what is not exported: other modules, or another pooling.
    """
    listed = read_list(folder / MODULES)
    kinds = [_kind(folder, each) for each in listed]
    order = [kind for kind, _ in kinds]
    expected = ["Transformer", "Pooling"] + [kind for kind in ("Dense", "Normalize") if kind in order]
    if order != expected:
        raise CheckpointError(
            f"{folder / MODULES} lists the modules {', '.join(order) or 'none'}; Transformer, Pooling, then at most a "
            "Dense and a Normalize are exported."
        )
    places = dict(kinds)
    transformer = places["Transformer"]
    settings = _optional(transformer / _SETTINGS)
    pooling, whole = _pooling(places["Pooling"] / "config.json")
    prompts, default = _prompts(folder / _PROMPTS)
    if any(prompts.values()) and not whole and pooling != "cls":
        raise CheckpointError(
            f"{places['Pooling'] / 'config.json'} says include_prompt=false: states of the prompt are left out of the "
            "mean. That is not exported."
        )
    # Versions since 6 keep it in the tokenizer's settings.
    longest = settings.get("max_seq_length", _optional(transformer / _TOKENIZER).get("model_max_length"))
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, (int, float)) or longest < 1):
        raise CheckpointError(f"{transformer / _SETTINGS}: max_seq_length={longest!r}; a number of tokens is expected.")
    dense = _dense(places["Dense"]) if "Dense" in places else None
    longest = None if longest is None else int(longest)
    return Modules(transformer, pooling, longest, settings.get("do_lower_case") is True, prompts, default, dense)


def _kind(folder: Path, module: object) -> tuple[str, Path]:
    """The last word of a module's type, and its folder."""
    path = module.get("path") if isinstance(module, dict) else None
    kind = module.get("type") if isinstance(module, dict) else None
    if not isinstance(path, str) or not isinstance(kind, str):
        raise CheckpointError(f"{folder / MODULES} is not valid: each module has a path and a type.")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise CheckpointError(f"{folder / MODULES}: the path {path!r} leads out of the folder.")
    return kind.rpartition(".")[2], folder / path


def _pooling(path: Path) -> tuple[str, bool]:
    """The mode, and whether a prompt's states count."""
    config = read_json(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(modes) if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(
            f"{path} asks for the pooling {' and '.join(map(str, modes))}; one of {', '.join(_POOLINGS)} is exported."
        )
    return modes[0], config.get("include_prompt", True) is not False


def _prompts(path: Path) -> tuple[dict[str, str], str | None]:
    config = _optional(path)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise CheckpointError(f"{path}: prompts are expected as names with texts.")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{path}: default_prompt_name={default!r} is none of its prompts.")
    return dict(prompts), default


def _dense(folder: Path) -> DenseModule:
    config = read_json(folder / "config.json")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation != _IDENTITY:
        raise CheckpointError(
            f"{folder / 'config.json'} asks for a Dense module with {str(activation).rpartition('.')[2]} behind it; "
            "only linear ones are exported."
        )
    sizes = [config.get(name) for name in ("in_features", "out_features")]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise CheckpointError(f"{folder / 'config.json'} lacks in_features or out_features.")
    weights = [folder / name for name in _DENSE_WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise CheckpointError(f"{folder} has neither {' nor '.join(_DENSE_WEIGHTS)}.")
    return DenseModule(int(sizes[0] or 0), int(sizes[1] or 0), config.get("bias", True) is not False, weights[0])


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
