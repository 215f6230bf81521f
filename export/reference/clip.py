"""CLIP-likes as upstream builds them: transformers' `CLIPModel`, and open_clip's models of two towers.

Sources: transformers, `modeling_clip.py`; open_clip, `model.py`, `hf_model.py`, `timm_model.py`.
"""

from __future__ import annotations

import copy
import importlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPModel

from export.families import ImageModel, TextAxes
from export.reference.image import ImageReference
from export.reference.text import TextReference
from runtime.errors import MissingExtraError

__all__ = [
    "CausalReference",
    "open_clip_references",
    "transformers_references",
    "untrained_open_clip",
    "untrained_transformers_clip",
]

_TRANSFORMERS, _OPEN_CLIP = "PyTorch fp32 (transformers)", "PyTorch fp32 (open_clip)"


@dataclass(frozen=True)
class CausalReference:
    """A causal text transformer of upstream's, with how an embedding is made of it; see `TextReference`.

    Attributes:
        encode: upstream's own way from token ids, int64 (batch, longest), to embeddings that are not normalized.
        pad_token_id: fills what is behind a text's end, which no embedding sees.
    """

    model: nn.Module
    name: str
    size: int
    longest: int
    vocab_size: int
    hidden_size: int
    encode: Callable[[torch.Tensor], torch.Tensor]
    pad_token_id: int = 0
    pooling: str = "eos"
    architecture: str = "clip"
    masked_head: None = None

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Embeddings of texts, float32 (batch, D), not normalized; see `TextReference.embed`."""
        ids = torch.where(attention_mask > 0, input_ids, self.pad_token_id)
        ids = F.pad(ids, (0, self.longest - ids.shape[1]), value=self.pad_token_id)
        with torch.inference_mode():
            return self.encode(ids)


def untrained_transformers_clip(config: Mapping[str, Any]) -> CLIPModel:
    """transformers' model of a config.json, its attention computed step by step ("eager")."""
    kept = {key: value for key, value in config.items() if key not in ("architectures", "model_type", "auto_map")}
    model: CLIPModel = CLIPModel._from_config(CLIPConfig(**kept), attn_implementation="eager")
    return model


def transformers_references(
    model: CLIPModel, axes: TextAxes, image: ImageModel
) -> tuple[CausalReference, ImageReference]:
    """The references of both towers of a model of `untrained_transformers_clip`."""
    model = model.eval()
    text, size = model.config.text_config, image.embedding_size

    def encode(input_ids: torch.Tensor) -> torch.Tensor:
        found = model.get_text_features(input_ids=input_ids)
        return _tensor(found)

    def forward(channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vision = model.vision_model
        states = vision(pixel_values=channels).last_hidden_state[:, 1:]
        patches = model.visual_projection(vision.post_layernorm(states))
        return _normalized(_tensor(model.get_image_features(pixel_values=channels)), patches, image)

    causal = CausalReference(
        model,
        _TRANSFORMERS,
        size,
        axes.tokenization.max_length,
        int(text.vocab_size),
        int(text.hidden_size),
        encode,
    )
    return causal, _image(model, image, _TRANSFORMERS, forward)


def untrained_open_clip(config: Mapping[str, Any], bert: Mapping[str, Any] | None) -> nn.Module:
    """open_clip's model of a "model_cfg", with weights that mean nothing.

    Args:
        config: the "model_cfg", in today's spelling.
        bert: config.json of the text model of the hub, which is not asked for it; None for a text transformer of
            open_clip's own.

    Raises:
        MissingExtraError: open_clip or timm is not installed.
    """
    upstream = _open_clip("open_clip.model")
    given = copy.deepcopy(dict(config))
    custom = bool(given.pop("custom_text", False)) or bert is not None
    given["vision_cfg"] = {**given["vision_cfg"], "timm_model_pretrained": False}
    with tempfile.TemporaryDirectory() as folder:
        if bert is not None:
            (Path(folder) / "config.json").write_text(json.dumps({**bert, "model_type": "bert"}), encoding="utf-8")
            given["text_cfg"] = {**given["text_cfg"], "hf_model_name": folder, "hf_model_pretrained": False}
        model: nn.Module = (upstream.CustomTextCLIP if custom else upstream.CLIP)(**given)
    return model


def open_clip_references(
    model: Any, axes: TextAxes, image: ImageModel
) -> tuple[TextReference | CausalReference, ImageReference]:
    """The references of both towers of a model of `untrained_open_clip`."""
    model = model.eval()
    longest, size = axes.tokenization.max_length, image.embedding_size
    inner = getattr(model, "text", model)
    if hasattr(inner, "config"):  # a text model of the hub
        text: TextReference | CausalReference = TextReference(
            inner.transformer, axes.pooling, inner.proj, longest, whole=model.encode_text, package="open_clip"
        )
    else:
        table = inner.token_embedding.weight
        text = CausalReference(
            model, _OPEN_CLIP, size, longest, int(table.shape[0]), int(table.shape[1]), model.encode_text
        )

    def forward(channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        visual = model.visual
        if hasattr(visual, "trunk"):
            patches = visual.head(visual.trunk.forward_features(channels)[:, visual.trunk.num_prefix_tokens :])
        else:
            visual.output_tokens = True
            try:
                patches = visual(channels)[1] @ visual.proj
            finally:
                visual.output_tokens = False
        return _normalized(model.encode_image(channels), patches, image)

    return text, _image(model, image, _OPEN_CLIP, forward)


def _image(model: nn.Module, image: ImageModel, name: str, forward: Callable[..., Any]) -> ImageReference:
    return ImageReference(
        model, image.preprocessing, image.architecture, image.grid, image.embedding_size, name, forward
    )


def _normalized(embeds: torch.Tensor, patches: torch.Tensor, image: ImageModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit norm, (N, D) and, with the patches on their grid, (N, rows, columns, D)."""
    assert image.grid is not None, "vision transformers have patches"
    return F.normalize(embeds, dim=-1), F.normalize(patches, dim=-1).unflatten(1, (image.grid, image.grid))


def _tensor(found: Any) -> torch.Tensor:
    """What transformers 4 returns as a tensor and 5 in an object."""
    embeds: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return embeds


def _open_clip(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError("Building the reference model", "open-clip-torch", "export") from error
