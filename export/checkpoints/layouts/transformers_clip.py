"""A CLIP as transformers writes it: config.json, preprocessor_config.json, the tokenizer's files, both towers' weights.

Sources: transformers, `configuration_clip.py` (defaults; `text_config_dict` overrides `text_config`),
`image_processing_clip.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.checkpoints.bpe import BPE_FILES
from export.checkpoints.layouts.layout import BOTH, Opened, missing_files
from export.checkpoints.layouts.pixels import read_preprocessor
from export.checkpoints.layouts.sizes import check_sizes
from export.checkpoints.signatures import read_json
from export.checkpoints.weights import INDEX
from export.errors import CheckpointError
from export.families import Family, TextAxes
from runtime.bundle.parts import CUT, Tokenization

__all__ = ["CONFIG", "FILES", "WEIGHTS", "open_transformers_clip", "towers"]

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
_SHARDS = ("model-*.safetensors", "pytorch_model-*.bin")
_PREPROCESSOR = "preprocessor_config.json"
FILES = (CONFIG, _PREPROCESSOR, *BPE_FILES, *WEIGHTS, *_SHARDS)

# Of transformers' classes, for what config.json leaves out.
_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_ACTIVATIONS = ("quick_gelu", "gelu")


def towers(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json says of the text and of the image tower, defaults filled in."""
    found = []
    for name, defaults in (("text_config", _TEXT), ("vision_config", _VISION)):
        chosen = (config.get(f"{name}_dict") or {}) if isinstance(config.get(f"{name}_dict"), dict) else {}
        given = config.get(name) if isinstance(config.get(name), dict) else {}
        found.append({**defaults, **(given or {}), **chosen})
    text, vision = found
    return text, vision


def open_transformers_clip(
    folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]
) -> Opened:
    """See `Layout.open`."""
    assert family.image is not None, "a family of two towers"
    if CONFIG not in names:
        layout = "The layout expected is that of openai/clip-vit-base-patch32 on the hub, or open_clip's."
        raise missing_files(folder, family.name, [f"{CONFIG} or open_clip_config.json"], layout, cached, "")
    config = read_json(folder / CONFIG)
    if config.get("model_type") != "clip":
        raise CheckpointError(
            f"{folder / CONFIG} describes a model of type {config.get('model_type')!r}; 'clip' is expected."
        )
    if family.hub and family.text and family.text.pooling != "eos":
        raise CheckpointError(f"{folder / CONFIG} describes a CLIP, which '{family.name}' is not.")
    weights = [name for name in WEIGHTS if name in names]
    faults = [] if weights else ["model.safetensors or pytorch_model.bin"]
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        faults.append("tokenizer.json or vocab.json and merges.txt")
    if faults:
        layout = "The layout expected is that of openai/clip-vit-base-patch32 on the hub."
        raise missing_files(folder, family.name, faults, layout, cached, "")
    text, vision = towers(config)
    _check(folder / CONFIG, config, text, vision)
    rule = family.image.preprocessing
    if _PREPROCESSOR in names:
        rule = read_preprocessor(folder / _PREPROCESSOR, rule)
    else:
        note(f"{_PREPROCESSOR} is missing: images are prepared as OpenAI's are")
        rule = replace(rule, size=vision["image_size"], crop=vision["image_size"])
    size = int(config.get("projection_dim", 512))
    image = replace(family.image, preprocessing=rule, patch=vision["patch_size"], embedding_size=size)
    check_sizes(folder, family, image, int(vision["image_size"]))
    longest = int(text["max_position_embeddings"])
    axes = TextAxes(Tokenization("bpe", longest, CUT, "none", {}, None), "eos", "linear")
    described = {**text, "model_type": "clip_text_model", "projection_dim": size}
    return Opened(folder, {BOTH: folder / weights[0]}, config, axes, image, text_config=described)


def _check(path: Path, config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any]) -> None:
    """Refuse what is no CLIP that can be exported.

    Raises:
        CheckpointError: quantized weights, numbers that cannot be used, another activation; all are listed.
    """
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{path} describes quantized weights (quantization_config). Give the checkpoint in float32, float16 or "
            "bfloat16 that they were made from; --precision int8 quantizes it here."
        )
    wrong = []
    for name, tower, defaults in (("text_config", text, _TEXT), ("vision_config", vision, _VISION)):
        numbers = [key for key, value in defaults.items() if isinstance(value, int) and key != "eos_token_id"]
        wrong += [f"{name}.{key}={tower[key]!r}" for key in numbers if type(tower[key]) is not int or tower[key] < 1]
        if tower["hidden_act"] not in _ACTIVATIONS:
            wrong.append(f"{name}.hidden_act={tower['hidden_act']!r} ({' or '.join(_ACTIVATIONS)} is exported)")
        epsilon = tower["layer_norm_eps"]
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            wrong.append(f"{name}.layer_norm_eps={epsilon!r}")
        if not wrong and tower["hidden_size"] % tower["num_attention_heads"]:
            wrong.append(f"{name}.hidden_size={tower['hidden_size']} is no multiple of its num_attention_heads")
    if not wrong and vision["num_channels"] != 3:
        wrong.append(f"vision_config.num_channels={vision['num_channels']} (3 are expected)")
    if type(config.get("projection_dim", 512)) is not int:
        wrong.append(f"projection_dim={config.get('projection_dim')!r}")
    if wrong:
        raise CheckpointError(f"{path} describes no CLIP that can be exported: {', '.join(wrong)}.")
