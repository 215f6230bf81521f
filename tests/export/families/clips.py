"""Small CLIP-likes in the layouts of the hub, written by upstream's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from transformers import CLIPConfig, CLIPModel

from export.checkpoints.bpe import write_hub_files
from export.checkpoints.random_checkpoint import random_vocabulary
from export.checkpoints.random_clip import BIOMEDCLIP_CONFIG, clip_config

SIZE, SIDE, PATCH, VOCABULARY = 32, 64, 32, 1000
_TOWER = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_hidden_layers": 3}
_BERT = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "vocab_size": VOCABULARY,
}


def widened(model: torch.nn.Module, seed: int = 0) -> Any:
    """Random weights wide enough that items embed apart; see `export.checkpoints.random_clip`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 0:
                parameter.fill_(3.2)
            elif parameter.ndim == 1:
                is_norm = name.endswith("weight")
                parameter.copy_(1 + 0.1 * noise if is_norm else 0.02 * noise)
            else:
                parameter.copy_(noise * (parameter[0].numel() ** -0.5))
    return model.eval()


def tiny_clip_config(activation: str = "quick_gelu") -> dict[str, Any]:
    """OpenAI's config.json with few and small layers."""
    config = clip_config(PATCH)
    shared = {**_TOWER, "projection_dim": SIZE, "hidden_act": activation}
    config["projection_dim"] = SIZE
    config["text_config"] |= {**shared, "vocab_size": VOCABULARY}
    config["vision_config"] |= {**shared, "image_size": SIDE}
    return config


def write_clip(folder: Path, *, activation: str = "quick_gelu", safetensors: bool = True) -> Path:
    """transformers' layout, as `save_pretrained` writes it, with the old form of preprocessor_config.json."""
    config = tiny_clip_config(activation)
    model = widened(CLIPModel(CLIPConfig(**config)))
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if not safetensors:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    write_hub_files(folder, VOCABULARY - 514)
    settings = {"crop_size": SIDE, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3}
    statistics = {f"image_{key}": BIOMEDCLIP_CONFIG["preprocess_cfg"][key] for key in ("mean", "std")}
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, **statistics, "size": SIDE}))
    return folder


def write_biomedclip(folder: Path) -> Path:
    """open_clip's layout around timm's ViT and a BERT of the hub, which stands in a folder of its own."""
    folder.mkdir()
    bert = folder / "text-model"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps(_BERT), encoding="utf-8")
    config = json.loads(json.dumps(dict(BIOMEDCLIP_CONFIG)))
    config["model_cfg"]["embed_dim"] = 512
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "vit_tiny_patch16_224"
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(bert), "context_length": 48}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    torch.save(biomedclip_model(config).state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in random_vocabulary(VOCABULARY)))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    return folder


def biomedclip_model(config: dict[str, Any]) -> torch.nn.Module:
    """open_clip's own class, its weights drawn."""
    given = json.loads(json.dumps(config["model_cfg"]))
    given["text_cfg"]["hf_model_pretrained"] = False
    return widened(open_clip.CustomTextCLIP(**given))


def write_open_clip(folder: Path) -> Path:
    """open_clip's layout of a CLIP, with the true vocabulary, which its tokenizer has to itself."""
    folder.mkdir()
    model_cfg = {
        "embed_dim": SIZE,
        "quick_gelu": True,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "patch_size": PATCH, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    from safetensors.torch import save_file

    state = widened(open_clip.CLIP(**model_cfg)).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    return folder
