"""How checkpoints lie in folders: a table of layouts, by the names that families give theirs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from export.checkpoints.layouts.clip import CLIP
from export.checkpoints.layouts.convirt import CONVIRT
from export.checkpoints.layouts.gloria import GLORIA
from export.checkpoints.layouts.hi_ml import HI_ML, TEXT_WEIGHTS
from export.checkpoints.layouts.layout import BOTH, Checkpoint, Layout, Opened, Tensors

__all__ = ["BOTH", "LAYOUTS", "TEXT_WEIGHTS", "Checkpoint", "Layout", "Opened", "Tensors"]

LAYOUTS: Mapping[str, Layout] = MappingProxyType({"hi-ml": HI_ML, "clip": CLIP, "gloria": GLORIA, "convirt": CONVIRT})
