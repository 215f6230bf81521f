"""config.json of a text model: whether it describes a BERT that can be exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from export.checkpoints.signatures import read_json
from export.errors import CheckpointError
from export.families import TextModel

__all__ = ["read_config"]

_NUMBERS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
# Shares between 0 and 1, which change nothing once training is over but must be usable by the model's classes.
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
# No BERT has more, and a number that is wrong by a slip of the hand would take all memory.
_MOST = 10_000_000
_MOST_LAYERS = 1_000


def read_config(path: Path, text: TextModel) -> dict[str, Any]:
    """The parsed config.json.

    Args:
        path: the file.
        text: what it must describe.

    Raises:
        CheckpointError: not readable, another architecture, quantized, or numbers that cannot be used.
    """
    config = read_json(path)
    untyped = text.untyped and "model_type" not in config and "hidden_size" in config
    if config.get("model_type") not in text.model_types and not untyped:
        classes = config.get("architectures")
        named = f" ({', '.join(map(str, classes))})" if isinstance(classes, list) and classes else ""
        raise CheckpointError(
            f"{path} describes a model of type {config.get('model_type')!r}{named}; "
            f"{' or '.join(map(repr, text.model_types))} is expected. Models of other architectures are not exported."
        )
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        raise CheckpointError(
            f"{path} describes quantized weights (quantization_config, method {method or 'unknown'}). Give the "
            "checkpoint in float32, float16 or bfloat16 that they were made from; --precision int8 quantizes it here."
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise CheckpointError(
            f"{path} describes a decoder (is_decoder or add_cross_attention); an encoder is expected."
        )
    _check_numbers(path, config, text)
    positions = config.get("position_embedding_type", "absolute")
    if config.get("hidden_act") != "gelu" or positions != "absolute":
        raise CheckpointError(
            f"{path} asks for hidden_act={config.get('hidden_act')!r} and position_embedding_type={positions!r}; "
            "only 'gelu' and 'absolute', as in CXR-BERT, are exported."
        )
    return config


def _check_numbers(path: Path, config: dict[str, Any], text: TextModel) -> None:
    numbers = (*_NUMBERS, "projection_size") if text.projection == "cxr-bert" else _NUMBERS
    wrong = [
        key
        for key in numbers
        if type(config.get(key)) is not int
        or not 1 <= config[key] <= (_MOST_LAYERS if key == "num_hidden_layers" else _MOST)
    ]
    epsilon = config.get("layer_norm_eps", 1e-12)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        wrong.append("layer_norm_eps")
    wrong += [key for key in _SHARES if key in config and not _is_share(config[key])]
    if wrong:
        raise CheckpointError(f"{path} lacks usable numbers for: {', '.join(wrong)}.")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise CheckpointError(
            f"{path}: hidden_size={config['hidden_size']} cannot be divided into "
            f"num_attention_heads={config['num_attention_heads']}."
        )
    padding = config.get("pad_token_id")
    if padding is not None and (type(padding) is not int or not 0 <= padding < config["vocab_size"]):
        raise CheckpointError(
            f"{path}: pad_token_id={padding!r} is no id of vocab_size={config['vocab_size']:,} tokens."
        )


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
