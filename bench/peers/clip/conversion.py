"""A CLIP of transformers in open_clip's layout, so that open_clip runs the same weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.peers.clip.loading import OPEN_CLIP_CONFIG, TOKENIZER_FILES, load_transformers

__all__ = ["write_open_clip"]

# transformers' names of what lies outside of the layers, and what open_clip calls them.
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding": "visual.conv1",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "text_model.embeddings.token_embedding": "token_embedding",
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.final_layer_norm": "ln_final",
        "logit_scale": "logit_scale",
    }
)
_LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "vision_model.encoder.layers.": "visual.transformer.resblocks.",
        "text_model.encoder.layers.": "transformer.resblocks.",
    }
)
_IN_LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
)


def write_open_clip(checkpoint: str, out: Path) -> None:
    """Write configuration, weights and the tokenizer's files, which are open_clip's own with the published vocabulary.

    Args:
        checkpoint: in transformers' layout.
        out: an empty folder.
    """
    import torch

    loaded = load_transformers(checkpoint)
    config = loaded.model.config
    text, vision = config.text_config, config.vision_config
    model = {
        "embed_dim": config.projection_dim,
        "quick_gelu": text.hidden_act == "quick_gelu",
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "patch_size": vision.patch_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
            "hf_tokenizer_name": "the files beside this one",
        },
    }
    whole = {"model_cfg": model, "preprocess_cfg": {"mean": list(loaded.mean), "std": list(loaded.std)}}
    (out / OPEN_CLIP_CONFIG).write_text(json.dumps(whole), encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (Path(checkpoint) / name).is_file():
            (out / name).write_bytes((Path(checkpoint) / name).read_bytes())
    torch.save(_renamed(loaded.model.state_dict()), out / "open_clip_pytorch_model.bin")


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """By open_clip's names: queries, keys and values in one tensor, projections transposed."""
    import torch

    found = {
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    for name, value in state.items():
        for before, after in _NAMES.items():
            if name == before or name.startswith(f"{before}."):
                found[after + name.removeprefix(before)] = value
        for before, after in _LAYERS.items():
            if not name.startswith(before):
                continue
            number, _, rest = name.removeprefix(before).partition(".")
            module, _, kind = rest.rpartition(".")
            if module in _IN_LAYERS:
                found[f"{after}{number}.{_IN_LAYERS[module]}.{kind}"] = value
            elif module == "self_attn.q_proj":
                parts = [state[f"{before}{number}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
                found[f"{after}{number}.attn.in_proj_{kind}"] = torch.cat(parts)
    return found
