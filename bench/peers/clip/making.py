"""What peers of CLIP-likes need made of a checkpoint: `python -m bench.peers.clip.making …`."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.peers.clip.loading import load
from bench.peers.contract import Spec
from bench.peers.made_once import made_once

__all__ = ["EMBEDS", "GRAPH", "INPUTS", "TOLD", "made", "main"]

GRAPH = "model.onnx"
# Beside a text graph: the names of its "inputs", and the "tokens" of a row where it takes one length alone.
TOLD = "inputs.json"
# Part → the input and the output of its plain graph; texts have an attention_mask as well where the model reads it.
INPUTS = {"text": "input_ids", "image": "pixel_values"}
EMBEDS = {"text": "text_embeds", "image": "image_embeds"}
_INT8 = "-int8"

# From checkpoint, bundle and an empty folder, which is filled.
Make = Callable[[str, Path, Path], None]


def made(spec: Spec, what: str) -> Path:
    """The folder with what a peer needs; whoever comes first makes it, the others wait.

    Args:
        spec: "checkpoint", "bundle", "made" (a folder for these weights) and "python", an interpreter with PyTorch.
        what: of `MAKERS`.

    Raises:
        PeerError: it cannot be made.
    """
    if what.endswith(_INT8):
        made(spec, what.removesuffix(_INT8))
    return made_once(spec, what, "bench.peers.clip.making")


def main(what: str, checkpoint: str, bundle: str, out: str) -> None:
    """Make.

    Args:
        what: of `MAKERS`.
        checkpoint: a folder in either layout.
        bundle: of the same weights; its tokenizer and its rule for pictures go along.
        out: an empty folder.
    """
    MAKERS[what](checkpoint, Path(bundle), Path(out))


def _open_clip(checkpoint: str, bundle: Path, out: Path) -> None:
    from bench.peers.clip.conversion import write_open_clip

    write_open_clip(checkpoint, out)


def _text(checkpoint: str, bundle: Path, out: Path) -> None:
    """The text tower's plain graph, with the bundle's tokenizer beside it."""
    loaded = load(checkpoint)
    inputs = loaded.inputs(["No effusion", "Small pleural effusion", "Pneumonia"])
    # Of open_clip's own text transformer, which reads as many positions as it has.
    fixed = "text" in inputs and not loaded.trims
    axes = {0: "batch"} if fixed else {0: "batch", 1: "sequence"}
    names = [INPUTS["text"] if name == "text" else name for name in inputs]
    _export(loaded.model, loaded.embed_texts, inputs, axes, names, EMBEDS["text"], out)
    told = {"inputs": names, "tokens": inputs["text"].shape[1] if fixed else None}
    (out / TOLD).write_text(json.dumps(told), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        shutil.copyfile(bundle / "text" / name, out / name)


def _image(checkpoint: str, bundle: Path, out: Path) -> None:
    """The image tower's plain graph, with its rule for pictures as transformers writes it."""
    import torch

    from runtime.bundle import open_bundle

    loaded = load(checkpoint)
    rule = open_bundle(bundle).image_part().preprocessing
    inputs = {"pixel_values": torch.zeros(3, *rule.shape)}
    embed = loaded.embed_images
    _export(
        loaded.model, lambda pixel_values: embed(pixel_values), inputs, {0: "batch"}, [*inputs], EMBEDS["image"], out
    )
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        **{f"do_{step}": True for step in ("convert_rgb", "resize", "center_crop", "rescale", "normalize")},
        "size": {"shortest_edge": rule.size},
        "resample": 3,
        "crop_size": {"height": rule.crop, "width": rule.crop},
        "crop_rounding": rule.crop_rounding,  # of this project, read by bench.peers.clip.exported
        "rescale_factor": 1 / 255,
        "image_mean": list(rule.mean),
        "image_std": list(rule.std),
    }
    (out / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _export(
    model: Any,
    embed: Callable[..., Any],
    inputs: Mapping[str, Any],
    axes: Mapping[int, str],
    names: list[str],
    output: str,
    out: Path,
) -> None:
    """`torch.onnx.export` of a tower as its package has it, with embeddings of unit norm."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **given: Any) -> Any:
            return torch.nn.functional.normalize(embed(**given), dim=-1)

    torch.onnx.export(
        Tower().eval(),
        kwargs=dict(inputs),
        f=out / GRAPH,
        input_names=names,
        output_names=[output],
        dynamic_shapes={"given": {name: dict(axes) for name in inputs}},
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _int8(part: str) -> Make:
    def make(checkpoint: str, bundle: Path, out: Path) -> None:
        """ONNX Runtime's dynamic quantization of the plain graph, which lies beside."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(out.parent / part / GRAPH, out / GRAPH, weight_type=QuantType.QInt8, per_channel=True)

    return make


MAKERS: Mapping[str, Make] = MappingProxyType(
    {"open-clip": _open_clip, "text": _text, "image": _image, "text-int8": _int8("text"), "image-int8": _int8("image")}
)


if __name__ == "__main__":
    main(*sys.argv[1:])
