"""Everything that runs a workload, by the name of its contestant and by system: what `bench.measuring.worker` opens.

Imports `record`, `processes` and `errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bench.peers.bert import BERT, FOREIGN_BERT
from bench.peers.clip import CLIP
from bench.peers.contract import Open
from bench.peers.engine import ENGINE
from bench.peers.foreign import FOREIGN
from bench.peers.gpu_graphs import MADE_GRAPH, QUERY_GRAPHS
from bench.peers.joint import joint
from bench.peers.masks import open_every_token
from bench.peers.plain import PLAIN
from bench.peers.rates import open_rate
from bench.peers.torch_gpu_texts import TORCH_GPU_TEXTS
from bench.peers.torch_images import TORCH_IMAGES
from bench.peers.torch_texts import TORCH_TEXTS
from bench.peers.upstream import UPSTREAM

__all__ = ["PEERS"]


def _peers() -> dict[str, dict[str, Open]]:
    found: dict[str, dict[str, Open]] = {}
    for table in (TORCH_TEXTS, TORCH_GPU_TEXTS, TORCH_IMAGES, PLAIN, BERT, FOREIGN_BERT, FOREIGN, CLIP, UPSTREAM):
        for name, systems in table.items():
            found.setdefault(name, {}).update(systems)
    for systems in found.values():
        if {"texts", "images"} <= set(systems):
            systems["joint"] = joint(systems["texts"], systems["images"])
    return {
        **found,
        "engine": dict(ENGINE),
        "made-graph": dict(MADE_GRAPH),
        "query-graphs": dict(QUERY_GRAPHS),
        "every-token": {"masks": open_every_token},
        "rate": {"rate": open_rate},
    }


PEERS: Mapping[str, Mapping[str, Open]] = MappingProxyType(_peers())
