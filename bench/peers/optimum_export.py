"""Export a checkpoint with optimum, as its users do: `python -m bench.peers.optimum_export CHECKPOINT TASK OUT`.

The checkpoint's model type is none that optimum knows, so that it is given the BERT that it is, without its projection
head, whose weights go to `HEAD` beside the graph. A process of its own: what an export leaves in memory is not the
peer's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

__all__ = ["HEAD", "main"]

HEAD = "projection_head.pt"


def main(checkpoint: str, task: str, out: str) -> None:
    """Export.

    Args:
        checkpoint: a folder in the hub's layout.
        task: "feature-extraction" or "fill-mask".
        out: folder to write.
    """
    import torch
    from health_multimodal.text.model import CXRBertConfig, CXRBertModel
    from optimum.exporters.onnx import main_export
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    config = CXRBertConfig.from_pretrained(checkpoint)
    model = CXRBertModel.from_pretrained(checkpoint, config=config).eval()
    known = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "auto_map")}
    with tempfile.TemporaryDirectory(prefix="cxr-optimum-") as bert:
        plain = BertForMaskedLM(BertConfig(**{**known, "architectures": ["BertForMaskedLM"]}))
        heads = {name for name in model.state_dict() if name.startswith("cls_projection_head.")}
        plain.load_state_dict({name: each for name, each in model.state_dict().items() if name not in heads})
        plain.save_pretrained(bert)
        BertTokenizerFast.from_pretrained(checkpoint).save_pretrained(bert)
        main_export(bert, output=out, task=task, do_validation=False, no_post_process=True, library_name="transformers")
    torch.save(model.cls_projection_head.state_dict(), Path(out) / HEAD)


if __name__ == "__main__":
    main(*sys.argv[1:])
