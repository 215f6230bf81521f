"""What the text folder holds for other tools alone: optimum's masked-language class and sentence-transformers.

Nothing here is read by `runtime`; the manifest has its digests. fastembed, and optimum's and sentence-transformers'
embedding classes, open the bundle's own graph (`export.graphs.packing.plain_spec`). `python -m bench manners` opens the
folder in each of them and compares the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from export.checkpoints.tokenizer import write_json
from export.graphs.graph import GraphSpec
from export.graphs.packing import PLAIN_INPUTS, text_a_row, write_face
from runtime.bundle.parts import Tokenization

__all__ = ["EVERY_TOKEN", "every_token_graph", "write_sentence_transformers"]

# The fp32 graph that fills masks, as `BertForMaskedLM` would be exported: a text a row, logits of every token.
EVERY_TOKEN = "fill_mask_every_token.onnx"
_LOGITS, _MASK_POSITIONS = "logits", "mask_positions"


def every_token_graph(source: Path, vocab_size: int, longest: int) -> None:
    """Write `EVERY_TOKEN` beside the graph that fills masks; it reads the same weights.

    Args:
        source: the packed fill-mask graph.
        vocab_size: scores of a token.
        longest: most tokens of a text.

    Raises:
        GraphError: the result is not the graph that was asked for.
    """
    model = onnx.load(str(source), load_external_data=False)
    before = [*text_a_row(model.graph), helper.make_node("Identity", ["position_ids"], [_MASK_POSITIONS])]
    spec = GraphSpec(
        inputs=dict.fromkeys(PLAIN_INPUTS, ("batch", "sequence")),
        outputs={_LOGITS: ("batch", "sequence", vocab_size)},
        limits={"batch": None, "sequence": longest},
    )
    write_face(model, [*before, *model.graph.node], source.with_name(EVERY_TOKEN), spec)


def write_sentence_transformers(folder: Path, size: int, rules: Tokenization) -> None:
    """Say to sentence-transformers how the folder is read: the graph, then its only token.

    Args:
        folder: the bundle's text folder.
        size: length of an embedding.
        rules: its longest input, where sentence-transformers cuts, and its prompts.
    """
    package = "sentence_transformers"
    steps = (("", f"{package}.models.Transformer"), ("1_Pooling", f"{package}.models.Pooling"))
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(steps)]
    prompts = {"prompts": rules.prompts, "default_prompt_name": rules.default_prompt}
    (folder / "1_Pooling").mkdir()
    files: dict[str, Mapping[str, Any] | Sequence[Any]] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": rules.max_length, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": size, "pooling_mode_cls_token": True},
    }
    if rules.prompts:
        files["config_sentence_transformers.json"] = prompts
    for name, content in files.items():
        write_json(folder / name, content)
