"""Small models of upstream's own classes, with random weights under which different inputs embed differently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from runtime.bundle.parts import Preprocessing

SIZE, SIDE, PATCH, LONGEST, VOCABULARY = 24, 64, 16, 77, 300
GRID = SIDE // PATCH
START, END = VOCABULARY - 2, VOCABULARY - 1
RULE = Preprocessing(
    colours="rgb",
    resize="shortest",
    size=SIDE,
    interpolation="bicubic",
    crop=SIDE,
    crop_rounding="down",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


@dataclass(frozen=True)
class Reference:
    """What graphs are made of, and what they are compared with."""

    model: nn.Module
    rule: Preprocessing = RULE
    pooling: str = "eos"
    size: int = SIZE


def scattered(model: nn.Module, seed: int = 1) -> nn.Module:
    """Weights that let inputs matter: as they are initialized, all pictures embed alike."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim:
                scale = 0.2 if parameter.ndim == 1 else 1.5 * parameter[0].numel() ** -0.5
                parameter.normal_(0, 0.4 if "embed" in name or "token" in name else scale)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.add_(1)
    return model.eval()


def transformers_clip(activation: str = "quick_gelu", end: int = END) -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    layers = {"intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_act": activation}
    text = {**layers, "hidden_size": 32, "vocab_size": VOCABULARY, "max_position_embeddings": LONGEST}
    tokens = {"eos_token_id": end, "bos_token_id": START, "pad_token_id": 0}
    vision = {**layers, "hidden_size": 48, "image_size": SIDE, "patch_size": PATCH}
    config = CLIPConfig(
        text_config=text | tokens, vision_config=vision, projection_dim=SIZE, attn_implementation="eager"
    )
    return scattered(CLIPModel(config))


_TEXT = {"context_length": LONGEST, "vocab_size": VOCABULARY, "width": 32, "heads": 4, "layers": 3}
_VISION = {"layers": 3, "width": 48, "head_width": 12, "patch_size": PATCH, "image_size": SIDE}


def open_clip_clip(quick_gelu: bool = False, **vision: Any) -> nn.Module:
    from open_clip.model import CLIP

    return scattered(CLIP(SIZE, {**_VISION, **vision}, _TEXT, quick_gelu=quick_gelu))


def open_clip_custom(**vision: Any) -> nn.Module:
    """With the text tower in a module of its own."""
    from open_clip.model import CustomTextCLIP

    return scattered(CustomTextCLIP(SIZE, {**_VISION, **vision}, _TEXT))


def timm_clip(**trunk: Any) -> nn.Module:
    """open_clip's model with a vision transformer of timm's, as small as the others."""
    import timm
    from open_clip.model import CustomTextCLIP

    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": SIDE}
    model = CustomTextCLIP(SIZE, vision, _TEXT)
    sizes = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": 48, "depth": 3, "num_heads": 4}
    model.visual.trunk = timm.models.vision_transformer.VisionTransformer(**sizes, num_classes=0, **trunk)
    model.visual.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(48, SIZE, bias=False))
    return scattered(model)


TEXTS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "transformers, quick_gelu": transformers_clip,
        "transformers, gelu, argmax": lambda: transformers_clip("gelu", end=2),
        "transformers, tanh gelu": lambda: transformers_clip("gelu_pytorch_tanh"),
        "open_clip": open_clip_clip,
        "open_clip, quick_gelu": lambda: open_clip_clip(quick_gelu=True),
        "open_clip, text apart": open_clip_custom,
    }
)
VISIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "transformers, quick_gelu": transformers_clip,
        "transformers, gelu": lambda: transformers_clip("gelu"),
        "open_clip": open_clip_clip,
        "open_clip, layer scale, no first norm": lambda: open_clip_clip(ls_init_value=0.3, no_ln_pre=True),
        "timm": timm_clip,
        "timm, layer scale, positions of patches alone": lambda: timm_clip(init_values=0.3, no_embed_class=True),
    }
)


@torch.no_grad()
def embed_texts(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Upstream's own embeddings, not normalized."""
    if hasattr(model, "get_text_features"):
        found = model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return getattr(found, "pooler_output", found)
    padded = F.pad(input_ids, (0, LONGEST - input_ids.shape[1]))  # as open_clip's tokenizers do
    return model.encode_text(padded)


@torch.no_grad()
def embed_pictures(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Upstream's own embeddings of uint8 (N, 3, side, side), unit norm."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (RULE.mean, RULE.std))
    values = (pixels / 255 - mean) / std
    if not hasattr(model, "get_image_features"):
        return model.encode_image(values, normalize=True)
    found = model.get_image_features(pixel_values=values)
    return F.normalize(getattr(found, "pooler_output", found), dim=-1)


def texts(rows: int, longest: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random texts with start and end tokens, the first one the longest, padded on the right with id 0."""
    generator = torch.Generator().manual_seed(1000 * rows + longest + seed)
    input_ids = torch.randint(1, START, (rows, longest), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    input_ids[:, 0] = START
    for row in range(rows):
        length = int(torch.randint(2, longest + 1, (1,), generator=generator)) if row else longest
        input_ids[row, length - 1], input_ids[row, length:], attention_mask[row, length:] = END, 0, 0
    return input_ids, attention_mask


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
