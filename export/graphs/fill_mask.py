"""The third face of a text graph: masked tokens → scores of the vocabulary.

The encoder is that of the packed graph in each precision, cut before its projection head and asked about [MASK] instead
of [CLS]; its weights stay in the files that they are in. Behind it comes the masked-language head in float32, whose
weights all precisions read from one file. Nothing is quantized again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from export.graphs.graph import GraphSpec, face_of, save_weights_apart
from export.graphs.packing import LAST_HIDDEN_STATE, PACKED_INPUTS, keep_needed, rename, write_face
from export.graphs.sharing import data_files, share_weights
from export.reference import TextReference
from runtime.bundle import FILL_MASK, Artifact

__all__ = ["Head", "export_head", "fill_mask_artifact"]

_LOGITS, _MASK_POSITIONS = "logits", "mask_positions"
# Of the head's tensors and nodes, which would otherwise be named as the encoder's.
_PREFIX = "fill_mask:"
_DATA = "fill_mask.onnx_data"


# The head's nodes (transformers' `BertOnlyMLMHead`): operator, inputs, output, attributes. Written out, not exported by
# torch, which takes longer for it than everything else that is made of it.
_Node = tuple[str, tuple[str, ...], str, Mapping[str, Any]]
_NODES: tuple[_Node, ...] = (
    # As a matrix, so that the products are Gemm, which reads the decoder's table as the embeddings have it.
    ("Reshape", (LAST_HIDDEN_STATE, "matrix"), "states", {}),
    ("Gemm", ("states", "dense.weight", "dense.bias"), "dense", {"transB": 1}),
    # GELU, which opset 18 has not, in the spelling that engines know and fuse.
    ("Div", ("dense", "root_of_2"), "scaled", {}),
    ("Erf", ("scaled",), "erf", {}),
    ("Add", ("erf", "one"), "erf_from_0", {}),
    ("Mul", ("dense", "erf_from_0"), "twice", {}),
    ("Mul", ("twice", "half"), "gelu", {}),
    ("LayerNormalization", ("gelu", "norm.weight", "norm.bias"), "normalized", {"axis": -1}),
    ("Gemm", ("normalized", "decoder.weight", "decoder.bias"), "scores", {"transB": 1}),
    ("Shape", (LAST_HIDDEN_STATE,), "places", {"end": 2}),
    ("Concat", ("places", "vocab_size"), "shape", {"axis": 0}),
    # allowzero: there may be no masks.
    ("Reshape", ("scores", "shape"), _LOGITS, {"allowzero": 1}),
)


@dataclass(frozen=True)
class Head:
    """The masked-language head: its graph, with references to its weights, and the size of the vocabulary."""

    graph: onnx.GraphProto
    vocab_size: int


def export_head(reference: TextReference, folder: Path, shared: Path | None = None) -> Head:
    """Write the weights of the masked-language head to a file of their own, and its graph to go behind an encoder.

    Args:
        reference: with a head for masked words, and GELU as its activation.
        folder: where to write them.
        shared: a graph in the folder of which weights with the same bytes are read instead of written again: the
            decoder's table is that of the word embeddings.
    """
    hidden, vocab_size, masked = reference.hidden_size, reference.vocab_size, reference.masked_head
    assert masked is not None, "asked for models that have one"
    layers: dict[str, nn.Module] = {"dense": masked.dense, "norm": masked.norm, "decoder": masked.decoder}
    tensors = {
        f"{layer}.{name}": parameter.detach().numpy()
        for layer, module in layers.items()
        for name, parameter in module.named_parameters()
    }
    tensors |= {name: np.float32(value) for name, value in (("root_of_2", 2**0.5), ("one", 1), ("half", 0.5))}
    tensors |= {"matrix": np.array([-1, hidden]), "vocab_size": np.array([vocab_size])}
    outer = (LAST_HIDDEN_STATE, _LOGITS)
    graph = onnx.GraphProto(name="head")
    for operator, inputs, output, attributes in _NODES:
        if operator == "LayerNormalization":
            attributes = {**attributes, "epsilon": masked.norm.eps}
        names = [[name if name in outer else _PREFIX + name for name in each] for each in (inputs, (output,))]
        graph.node.append(helper.make_node(operator, *names, name=_PREFIX + output, **attributes))
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), _PREFIX + name) for name, array in tensors.items()
    )
    if shared is not None:
        share_weights(graph, shared)
    path = folder / ".head.onnx"
    save_weights_apart(helper.make_model(graph), path, _DATA)
    graph = onnx.load(str(path), load_external_data=False).graph
    path.unlink()
    return Head(graph, vocab_size)


def fill_mask_artifact(packed: Artifact, bundle: Path, head: Head, longest: int) -> Artifact:
    """Write the graph that fills masks beside a packed artifact, and describe it.

    Args:
        packed: a packed text artifact of any precision.
        bundle: the folder that its files are named from.
        head: in the same folder.
        longest: largest width of a row.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    path = PurePosixPath(packed.file)
    # model_int8_packed.onnx → fill_mask_int8.onnx
    file = path.with_name(f"fill_mask{path.stem.removeprefix('model').removesuffix('_packed')}.onnx")
    spec = GraphSpec(
        inputs={**dict.fromkeys(PACKED_INPUTS[:-1], ("rows", "width")), _MASK_POSITIONS: ("rows", "masks")},
        outputs={_LOGITS: ("rows", "masks", head.vocab_size)},
        limits={"rows": None, "width": longest, "masks": None},
    )
    model = onnx.load(str(bundle / packed.file), load_external_data=False)
    keep_needed(model.graph, [LAST_HIDDEN_STATE], PACKED_INPUTS)
    rename(model.graph, {PACKED_INPUTS[-1]: _MASK_POSITIONS})
    if not any(_MASK_POSITIONS in node.input for node in model.graph.node):
        _gather(model.graph)
    model.graph.initializer.extend(head.graph.initializer)
    nodes = [*model.graph.node, *head.graph.node]
    info = write_face(model, nodes, bundle / file, spec)
    weights = tuple(path.with_name(name).as_posix() for name in data_files(model))
    return face_of(packed, FILL_MASK, file.as_posix(), info, external_data=weights)


def _gather(graph: onnx.GraphProto) -> None:
    """Take the masked tokens' states of all, where the last layer is computed for all because their mean is wanted."""
    states, index, last = f"{_PREFIX}all_states", f"{_PREFIX}index", f"{_PREFIX}last"
    rename(graph, {LAST_HIDDEN_STATE: states})
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), last))
    graph.node.append(helper.make_node("Unsqueeze", [_MASK_POSITIONS, last], [index]))
    graph.node.append(helper.make_node("GatherND", [states, index], [LAST_HIDDEN_STATE], batch_dims=1))
