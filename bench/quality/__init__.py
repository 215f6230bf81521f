"""The papers' tasks with the papers' metrics: `python -m bench quality WHAT …`.

One module each, like the runtime's commands. Imports `peers.references`, which loads what upstream runs, and no other
wing of `bench`.
"""

from __future__ import annotations

from bench.quality import masked, ms_cxr, radnli, retrieval, triplets
from bench.quality.comparison import command as comparison
from bench.quality.zero_shot import command as zero_shot
from runtime.commands import Command

__all__ = ["QUALITY"]

QUALITY: tuple[Command, ...] = (
    radnli,
    triplets,
    masked,
    ms_cxr,
    retrieval,
    zero_shot,
    comparison,
)
