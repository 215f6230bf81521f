"""What peers need made of a CXR-BERT checkpoint, by their own tools: `python -m bench.peers.bert.making …`.

Nothing of this project's rewrites, precisions or calibration is in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from bench.peers.contract import Spec
from bench.peers.made_once import made_once

__all__ = ["HEAD", "made", "main"]

# Beside a plain BERT: the weights of the projection head, which no tool knows.
HEAD = "projection_head.pt"
# What is read, of what was made before.
_OF: Mapping[str, str] = MappingProxyType({"bert-ctranslate2": "bert"})

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


MAKERS: Mapping[str, Make] = MappingProxyType({"bert": _bert, "bert-ctranslate2": _ctranslate2})


if __name__ == "__main__":
    main(*sys.argv[1:])
