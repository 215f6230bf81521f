"""ConVIRT, of which no weights were published: a layout of this project's own for those that are trained again.

A folder with

* model.safetensors: `text_encoder.…` (transformers' BertModel), `text_projection.0` and `.2` (linear maps, ReLU between
  them), `image_encoder.…` (torchvision's resnet50 without fc), `image_projection.0` and `.2`; each map with weight and
  bias;
* config.json: that of the BERT, with "model_type": "convirt";
* vocab.txt or tokenizer.json: the BERT's.

Widths of the projections are read from the weights' shapes: the first is as wide as its input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from export.checkpoints.axes import read_axes
from export.checkpoints.config import read_config
from export.checkpoints.layouts.layout import BOTH, Layout, Opened, Tensors, missing_files
from export.checkpoints.places import found_instead
from export.checkpoints.vocabulary import TOKENIZER_FILES
from export.families import Family, JointModel

__all__ = ["CONVIRT", "WEIGHTS"]

WEIGHTS = "model.safetensors"


def _wanted(family: Family) -> list[str]:
    return [WEIGHTS, "config.json", *TOKENIZER_FILES]


def _open(folder: Path, names: set[str], family: Family, cached: str | None, note: Callable[[str], None]) -> Opened:
    assert family.text is not None, "the layout is of two towers"
    faults = [name for name in (WEIGHTS, "config.json") if name not in names]
    faults += [] if names & {"vocab.txt", "tokenizer.json"} else ["vocab.txt or tokenizer.json"]
    if faults:
        layout = "The layout is this project's own: see `export/checkpoints/layouts/convirt.py`."
        raise missing_files(folder, family.name, faults, layout, cached, found_instead(folder, names))
    config = read_config(folder / "config.json", family.text)
    axes = read_axes(folder, config, family.text, None, note)
    return Opened(folder, {BOTH: folder / WEIGHTS}, config, axes, family.image, text_config=config)


def _joint(family: Family, tensors: Mapping[str, Tensors]) -> JointModel | None:
    return family.joint


CONVIRT = Layout(_wanted, _open, _joint)
