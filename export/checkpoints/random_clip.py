"""Untrained, seeded checkpoints of CLIP-likes in the hub's exact layout; see `export.checkpoints.random_checkpoint`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from export.checkpoints.bpe import write_hub_files
from export.checkpoints.layouts import open_clip, transformers_clip
from export.checkpoints.layouts.open_clip import bert_config
from export.checkpoints.tokenizer import write_json
from export.checkpoints.vocabulary import SPECIAL_TOKENS
from export.checkpoints.words import random_vocabulary
from export.families import Family
from export.reference import untrained_open_clip, untrained_transformers_clip

__all__ = ["BIOMEDCLIP_CONFIG", "clip_config", "write_random_clip"]

# open_clip_config.json of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224.
BIOMEDCLIP_CONFIG: Mapping[str, Any] = MappingProxyType(
    {
        "model_cfg": {
            "embed_dim": 512,
            "vision_cfg": {
                "timm_model_name": "vit_base_patch16_224",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 224,
            },
            "text_cfg": {
                "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 256,
            },
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
)
# Patch → what of config.json differs from the class's defaults in OpenAI's models.
_TOWERS: Mapping[int, Mapping[str, Any]] = MappingProxyType(
    {
        32: {},
        16: {"vision_config": {"patch_size": 16}},
        14: {
            "projection_dim": 768,
            "text_config": {
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
                "projection_dim": 768,
            },
            "vision_config": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_attention_heads": 16,
                "num_hidden_layers": 24,
                "patch_size": 14,
                "projection_dim": 768,
            },
        },
    }
)
_SCALE = 4.6052


def clip_config(patch: int = 32) -> dict[str, Any]:
    """config.json of OpenAI's CLIP with patches of so many pixels, as transformers writes it.

    The ids of special tokens are those of the published files: wrong for the tokenizer, they make transformers take the
    state of the largest id.
    """
    towers = _TOWERS[patch]
    text = {"bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "model_type": "clip_text_model"}
    vision = {"dropout": 0.0, "model_type": "clip_vision_model"}
    return {
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": towers.get("projection_dim", 512),
        "text_config": {**text, **towers.get("text_config", {})},
        "vision_config": {**vision, **towers.get("vision_config", {})},
    }


def write_random_clip(folder: Path, family: Family, seed: int, config: Mapping[str, Any] | None) -> None:
    """Write the checkpoint of a CLIP-like into an existing folder.

    Args:
        folder: where.
        family: a BERT as its text model makes it open_clip's layout, else it is transformers'.
        seed: of all weights.
        config: what is written as open_clip_config.json or config.json; None takes the published one.
    """
    assert family.text is not None
    assert family.image is not None
    generator = torch.Generator().manual_seed(seed)
    if family.text.pooling == "eos":
        config = config or clip_config(family.image.patch or 32)
        write_json(folder / transformers_clip.CONFIG, config)
        _write_preprocessor(folder / "preprocessor_config.json", transformers_clip.towers(config)[1]["image_size"])
        # As many pairs as the vocabulary has room for beside 512 bytes and the two ends.
        write_hub_files(folder, transformers_clip.towers(config)[0]["vocab_size"] - 514)
        with torch.device("meta"):
            state = untrained_transformers_clip(config).state_dict()
        tensors = {name: _tensor(name, value, generator) for name, value in state.items()}
        from safetensors.torch import save_file

        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    config = config or BIOMEDCLIP_CONFIG
    (folder / open_clip.CONFIG).write_text(json.dumps(dict(config), indent=2), encoding="utf-8")
    model = config["model_cfg"]
    bert = bert_config(folder / open_clip.CONFIG, model["text_cfg"])
    vocabulary = random_vocabulary(bert["vocab_size"])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    write_json(folder / "special_tokens_map.json", SPECIAL_TOKENS)
    write_json(
        folder / "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer", **SPECIAL_TOKENS}
    )
    with torch.device("meta"):
        state = untrained_open_clip(model, bert).state_dict()
    tensors = {name: _tensor(name, value, generator) for name, value in state.items()}
    # A buffer that older versions wrote, and that the published file carries.
    tensors["text.transformer.embeddings.position_ids"] = torch.arange(bert["max_position_embeddings"])[None]
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")


def _write_preprocessor(path: Path, side: int) -> None:
    """As the published ones are: the old form, with sizes as numbers."""
    mean, std = (list(BIOMEDCLIP_CONFIG["preprocess_cfg"][key]) for key in ("mean", "std"))
    settings = {
        "crop_size": side,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": mean,
        "image_std": std,
        "resample": 3,
        "size": side,
    }
    write_json(path, settings)


def _tensor(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if name.endswith("logit_scale"):
        return torch.full(like.shape, _SCALE)
    if not like.is_floating_point():
        return torch.arange(like.numel()).reshape(like.shape)
    noise = torch.randn(like.shape, generator=generator)
    if like.ndim == 1 and "norm" in name.lower() and name.endswith("weight"):
        return 1 + 0.1 * noise
    if like.ndim < 2:
        return 0.02 * noise
    # As wide as the signal stays from layer to layer: with the 0.02 of the start of training all images embed alike.
    return noise / math.sqrt(math.prod(like.shape[1:])) if like.ndim != 3 else 0.2 * noise
