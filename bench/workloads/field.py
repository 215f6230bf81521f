"""Which peers a bundle meets: by what its manifest and its checkpoint say, not by its family's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bench.measuring import Entry
from bench.peers.clip.loading import is_open_clip
from bench.record import Contestant
from bench.workloads.clip_contestants import clip_peers
from bench.workloads.contestants import peers
from runtime.bundle import Bundle

__all__ = ["FIELDS", "known_peers", "peers_of"]

# Upstream's classes in PyTorch, which is all that there is to compare other systems with.
_UPSTREAM = Entry(
    Contestant(
        "reference",
        "upstream's classes (PyTorch fp32)",
        "reference",
        "as run",
        note="what the export compares its graphs with; texts in file order in batches of 32, images one by one",
    ),
    "upstream",
    ("texts", "images", "joint"),
    ("torch", "transformers"),
)

# For listings: of what → its peers.
FIELDS: Mapping[str, tuple[Entry, ...]] = MappingProxyType(
    {
        "BioViL and CXR-BERT": peers(),
        "CLIP-likes in transformers' files": clip_peers(open_clip=False),
        "CLIP-likes in open_clip's files": clip_peers(open_clip=True),
        "other systems": (_UPSTREAM,),
    }
)


def peers_of(bundle: Bundle, checkpoint: Path) -> tuple[Entry, ...]:
    """The peers of a bundle, the reference first.

    Args:
        bundle: opened. One whose image tower is a vision transformer is a CLIP-like; CXR-BERT's head and BioViL's
            ResNet, alone or together, are what hi-ml-multimodal runs.
        checkpoint: its folder, whose layout says which package it is for.
    """
    text, image = bundle.manifest.text, bundle.manifest.image
    if image is not None and image.architecture == "vit":
        return clip_peers(is_open_clip(str(checkpoint)))
    hi_ml = (text is None or text.projection == "cxr-bert") and (image is None or image.architecture == "resnet50")
    return peers() if hi_ml else (_UPSTREAM,)


def known_peers() -> tuple[Entry, ...]:
    """Those of all bundles, each name once."""
    return tuple({entry.name: entry for field in FIELDS.values() for entry in field}.values())
