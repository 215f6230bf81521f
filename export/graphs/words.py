"""The face of a text graph that embeds every token: what word pieces are joined to words from, as GLoRIA's.

The plain graph with the states that it pools as an output; it reads the same weights.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto, helper

from export.graphs.graph import GraphSpec, face_of
from export.graphs.packing import PLAIN_INPUTS, POOLED_STATES, keep_needed, write_face
from runtime.bundle import WORDS, Artifact

__all__ = ["words_artifact", "words_spec"]

_TEXTS, _TOKENS = "text_embeds", "token_embeds"


def words_spec(size: int, hidden_size: int, longest: int) -> GraphSpec:
    """Names and axes: int64 inputs; text_embeds of unit norm and token_embeds, which are not, float32."""
    return GraphSpec(
        inputs=dict.fromkeys(PLAIN_INPUTS, ("batch", "sequence")),
        outputs={_TEXTS: ("batch", size), _TOKENS: ("batch", "sequence", hidden_size)},
        limits={"batch": None, "sequence": longest},
    )


def words_artifact(plain: Artifact, bundle: Path, spec: GraphSpec) -> Artifact:
    """Write the graph beside a plain artifact, and describe it.

    Args:
        plain: a text artifact of any precision that pools all tokens.
        bundle: the folder that its files are named from.
        spec: see `words_spec`.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    path = PurePosixPath(plain.file)
    # model_int8.onnx → words_int8.onnx
    file = path.with_name(f"words{path.stem.removeprefix('model')}.onnx")
    model = onnx.load(str(bundle / plain.file), load_external_data=False)
    keep_needed(model.graph, [_TEXTS, POOLED_STATES], PLAIN_INPUTS)
    # Half precision keeps them in 16 bits.
    cast = helper.make_node("Cast", [POOLED_STATES], [_TOKENS], to=TensorProto.FLOAT)
    info = write_face(model, [*model.graph.node, cast], bundle / file, spec)
    return face_of(plain, WORDS, file.as_posix(), info)
