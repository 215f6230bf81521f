"""Models of two towers whose weights lie in one file, as transformers or as open_clip writes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from export.checkpoints.layouts import open_clip, transformers_clip
from export.checkpoints.layouts.layout import BOTH, Layout, Opened, Tensors
from export.checkpoints.layouts.open_clip import open_open_clip
from export.checkpoints.layouts.transformers_clip import open_transformers_clip
from export.errors import CheckpointError
from export.families import Family, JointModel

__all__ = ["CLIP"]


def _wanted(family: Family) -> list[str]:
    return [*dict.fromkeys((*open_clip.FILES, *transformers_clip.FILES))]


def _open(folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]) -> Opened:
    if open_clip.CONFIG not in names:
        return open_transformers_clip(folder, names, family, cached, note)
    if transformers_clip.CONFIG in names and names.intersection(transformers_clip.WEIGHTS):
        note(f"{transformers_clip.CONFIG} and transformers' weights are read; {open_clip.CONFIG} beside them is not")
        return open_transformers_clip(folder, names, family, cached, note)
    return open_open_clip(folder, names, family, cached, note)


def _joint(family: Family, tensors: Mapping[str, Tensors]) -> JointModel | None:
    if family.joint is None:
        return None
    found = {field: _scalar(tensors[BOTH], field) for field in ("logit_scale", "logit_bias")}
    scale, bias = found["logit_scale"], found["logit_bias"]
    if scale is None:
        raise CheckpointError("The weights have no logit_scale, which every CLIP is trained with.")
    if not math.isfinite(scale) or scale > 10:
        raise CheckpointError(f"logit_scale is {scale}, the logarithm of a scale: about 4.6 is expected.")
    return replace(family.joint, logit_scale=math.exp(scale), logit_bias=bias or 0.0)


def _scalar(tensors: Mapping[str, torch.Tensor], name: str) -> float | None:
    """A parameter of one number, in whatever wrapper."""
    found = [value for key, value in tensors.items() if key == name or key.endswith(f".{name}")]
    return float(found[0].reshape(-1)[0]) if found and found[0].numel() == 1 else None


CLIP = Layout(_wanted, _open, _joint)
