"""Peers of CLIP-likes: transformers, open_clip, sentence-transformers, fastembed, and plain exports of their models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bench.peers.clip.exported import EXPORTED
from bench.peers.clip.packages import PACKAGES
from bench.peers.clip.pytorch import PYTORCH
from bench.peers.contract import Open

__all__ = ["CLIP"]

CLIP: Mapping[str, Mapping[str, Open]] = MappingProxyType({**PYTORCH, **EXPORTED, **PACKAGES})
