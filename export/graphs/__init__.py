"""From PyTorch to ONNX, and rewrites of graphs that keep the function: packing, heads, shared weights.

Imports `errors`, `reference` and `runtime`.
"""

from export.graphs.graph import GraphInfo, GraphSpec, check_graph, export_graph

__all__ = ["GraphInfo", "GraphSpec", "check_graph", "export_graph"]
