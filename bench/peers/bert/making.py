"""What peers need made of a CXR-BERT checkpoint, by their own tools: `python -m bench.peers.bert.making …`.

Nothing of this project's rewrites, precisions or calibration is in it. Where a tool wants data to calibrate with, it
gets as many synthetic reports as the bundle that `python -m bench` makes is calibrated with.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.peers.contract import Spec
from bench.peers.made_once import made_once

__all__ = ["EMBEDS", "GRAPH", "HEAD", "MODEL", "calibration_texts", "made", "main"]

GRAPH, MODEL = "model.onnx", "openvino_model.xml"
EMBEDS = "text_embeds"
# Beside a plain BERT: the weights of the projection head, which no tool knows.
HEAD = "projection_head.pt"
# Not the seed of what is measured with, whose default is 0.
_CALIBRATION_TEXTS, _SEED = 64, 1
# What is read, of what was made before.
_OF: Mapping[str, str] = MappingProxyType(
    {"bert-ctranslate2": "bert", "bert-onnx-int8": "bert-onnx", "bert-nncf": "bert-onnx"}
)

# From a checkpoint and an empty folder, which is filled.
Make = Callable[[str, Path], None]


def made(spec: Spec, what: str) -> Path:
    """The folder with what a peer needs.

    Args:
        spec: see `bench.peers.made_once`.
        what: of `MAKERS`.

    Raises:
        PeerError: it cannot be made.
    """
    if what in _OF:
        made(spec, _OF[what])
    return made_once(spec, what, "bench.peers.bert.making")


def main(what: str, checkpoint: str, bundle: str, out: str) -> None:
    """Make.

    Args:
        what: of `MAKERS`.
        checkpoint: CXR-BERT's folder.
        bundle: not read.
        out: an empty folder.
    """
    MAKERS[what](checkpoint, Path(out))


def calibration_texts() -> list[str]:
    """Synthetic reports."""
    from export.samples.report_sentences import report_texts

    return list(itertools.islice(report_texts(_SEED), _CALIBRATION_TEXTS))


def _bert(checkpoint: str, out: Path) -> None:
    """The BERT in transformers' own class, which all tools know, its tokenizer, and the projection head apart."""
    import torch
    from transformers import BertTokenizerFast

    from bench.peers.cxr_bert import load_cxr_bert

    model = load_cxr_bert(checkpoint)
    model.bert.save_pretrained(out)
    BertTokenizerFast.from_pretrained(checkpoint).save_pretrained(out)
    torch.save(model.cls_projection_head.state_dict(), out / HEAD)


def _ctranslate2(checkpoint: str, out: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(out.parent / "bert")).convert(str(out), quantization="int8", force=True)


def _onnx(checkpoint: str, out: Path) -> None:
    """`torch.onnx.export` of the model as its repository's code has it, with embeddings of unit norm."""
    import torch

    from bench.peers.cxr_bert import load_cxr_bert

    model = load_cxr_bert(checkpoint)

    class Embeds(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return torch.nn.functional.normalize(self.model.embed(input_ids, attention_mask), dim=-1)

    ids = torch.ones((2, 7), dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        Embeds().eval(),
        kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        f=out / GRAPH,
        input_names=["input_ids", "attention_mask"],
        output_names=[EMBEDS],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _onnx_int8(checkpoint: str, out: Path) -> None:
    """ONNX Runtime's dynamic quantization."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(out.parent / "bert-onnx" / GRAPH, out / GRAPH, weight_type=QuantType.QInt8, per_channel=True)


def _nncf(checkpoint: str, out: Path) -> None:
    """`nncf.quantize` as its documentation has it for transformers."""
    import nncf
    import openvino

    model = openvino.Core().read_model(out.parent / "bert-onnx" / GRAPH)
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(_rows(checkpoint))),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=_CALIBRATION_TEXTS,
    )
    openvino.save_model(quantized, out / MODEL, compress_to_fp16=False)


def _rows(checkpoint: str) -> Iterator[dict[str, Any]]:
    from transformers import BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(checkpoint)
    for text in calibration_texts():
        row = tokenizer(text, return_tensors="np", truncation=True, max_length=512)
        yield {name: row[name] for name in ("input_ids", "attention_mask")}


MAKERS: Mapping[str, Make] = MappingProxyType(
    {
        "bert": _bert,
        "bert-ctranslate2": _ctranslate2,
        "bert-onnx": _onnx,
        "bert-onnx-int8": _onnx_int8,
        "bert-nncf": _nncf,
    }
)


if __name__ == "__main__":
    main(*sys.argv[1:])
