"""ONNX Runtime and OpenVINO on what `torch.onnx.export` makes of the packages' models, without this project's rewrites.

The tokenizer is the checkpoint's, by the library tokenizers; pictures are prepared with Pillow and NumPy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.clip.making import EMBEDS, GRAPH, INPUTS, TOLD, made
from bench.peers.contract import BATCH, Case, Open, Prepare, Run, Spec, in_batches, sorted_batches
from bench.peers.plain import Engine, onnxruntime_engine, openvino_engine

__all__ = ["EXPORTED"]


def _texts(engine: Engine, precision: str) -> Open:
    def start(spec: Spec) -> Prepare:
        from tokenizers import Tokenizer

        folder = made(spec, "text")
        graph = _graph(spec, "text", precision)
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(config["model_max_length"])
        tokenizer.no_padding()
        told = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        compute = engine(str(graph), spec["threads"])

        def feeds(rows: list[list[int]]) -> dict[str, NDArray[np.int64]]:
            ids = np.zeros((len(rows), told["tokens"] or max(map(len, rows))), np.int64)
            mask = np.zeros_like(ids)
            for number, row in enumerate(rows):
                ids[number, : len(row)], mask[number, : len(row)] = row, 1
            given = {"input_ids": ids, "attention_mask": mask}
            return {name: given[name] for name in told["inputs"]}

        def prepare(case: Case) -> Run:
            def run() -> NDArray[Any]:
                rows = [each.ids for each in tokenizer.encode_batch(case["texts"])]

                def embed(places: list[int]) -> NDArray[Any]:
                    return compute(feeds([rows[place] for place in places]), EMBEDS["text"])

                return sorted_batches([len(row) for row in rows], embed)

            return run

        return prepare

    return start


def _images(engine: Engine, precision: str) -> Open:
    def start(spec: Spec) -> Prepare:
        settings = json.loads((made(spec, "image") / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, std = (np.array(settings[f"image_{key}"], np.float32)[:, None, None] for key in ("mean", "std"))
        compute = engine(str(_graph(spec, "image", precision)), spec["threads"])

        def embed(pixels: NDArray[np.uint8]) -> NDArray[Any]:
            values = (pixels.astype(np.float32) / 255 - mean) / std
            return compute({INPUTS["image"]: values}, EMBEDS["image"])

        def prepare(case: Case) -> Run:
            if "pixels" in case:
                given = np.load(case["pixels"])
                return lambda: in_batches(len(given), lambda places: embed(given[places]), BATCH)
            paths = case["images"]
            return lambda: in_batches(
                len(paths), lambda places: embed(np.stack([_pixels(paths[place], settings) for place in places])), BATCH
            )

        return prepare

    return start


def _pixels(path: str, settings: Mapping[str, Any]) -> NDArray[np.uint8]:
    """uint8 (3, side, side) of a file: the shorter side to the size, the crop in the middle."""
    from PIL import Image

    size, crop = settings["size"]["shortest_edge"], settings["crop_size"]["height"]
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    short = min(width, height)
    image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
    # torchvision rounds halves to even, transformers down.
    halved = round if settings["crop_rounding"] == "even" else int
    left, top = (halved((side - crop) / 2) for side in image.size)
    pixels: NDArray[np.uint8] = np.asarray(image.crop((left, top, left + crop, top + crop))).transpose(2, 0, 1)
    return pixels


def _graph(spec: Spec, part: str, precision: str) -> Path:
    return made(spec, f"{part}-int8" if precision == "int8" else part) / GRAPH


def _both(engine: Engine, precision: str = "fp32") -> Mapping[str, Callable[..., Any]]:
    return {"texts": _texts(engine, precision), "images": _images(engine, precision)}


EXPORTED: Mapping[str, Mapping[str, Open]] = MappingProxyType(
    {
        "exported-onnxruntime": _both(onnxruntime_engine),
        "exported-onnxruntime-int8": _both(onnxruntime_engine, "int8"),
        "exported-openvino": _both(openvino_engine()),
        "exported-openvino-fp32": _both(openvino_engine("f32")),
    }
)
