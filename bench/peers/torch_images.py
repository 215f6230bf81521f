"""Images through PyTorch, on the checkpoint; pixels by the reference package's own loading and transforms.

On a processor one at a time: four at a time took 1.3 times as long in PyTorch fp32 (2.3 times without channels last),
and no less in bfloat16, ONNX Runtime and OpenVINO.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.contract import PROCESSOR, Case, Open, Prepare, Run, Spec
from bench.peers.loading import LOADERS, PILLOW, REFERENCE, loaded_ahead

__all__ = ["TORCH_IMAGES", "in_files_or_pixels"]

_Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_WEIGHTS = "biovil_image_resnet50_proj_size_128.pt"
_RESIZE, _CROP = 512, 480


def _reference(spec: Spec) -> Prepare:
    """The reference package as it runs."""
    from health_multimodal.image import ImageInferenceEngine

    model = _model(spec)
    engine = ImageInferenceEngine(model, _transform())

    def prepare(case: Case) -> Run:
        if "images" in case:
            paths = [Path(name) for name in case["images"]]
            return lambda: np.stack([engine.get_projected_global_embedding(path).cpu().numpy() for path in paths])
        pixels = np.load(case["pixels"])
        return lambda: _in_steps(pixels, lambda each: _embed(model, each, lambda batch: batch), 1)

    return prepare


def _tuned(dtype: str, compiled: bool = False) -> Open:
    """PyTorch as those who know it run it: channels last."""

    def start(spec: Spec) -> Prepare:
        import torch

        kind = getattr(torch, dtype)
        model = _model(spec).to(kind).to(memory_format=torch.channels_last)
        model = torch.compile(model) if compiled else model

        def into(batch: Any) -> Any:
            return batch.to(kind).contiguous(memory_format=torch.channels_last)

        return in_files_or_pixels(lambda pixels: _embed(model, pixels, into), spec)

    return start


def in_files_or_pixels(embed: _Embed, spec: Spec) -> Prepare:
    """What prepares both kinds of cases, from a function that embeds uint8 (N, side, side).

    Files are decoded one by one, as the reference does it; on all threads on a GPU, which has nothing to do meanwhile;
    and on a thread beside the network where plain Pillow loads them.
    """
    size, on_gpu = spec.get("images", 1), spec.get("device", PROCESSOR) != PROCESSOR
    loading = spec.get("loading", REFERENCE)

    def prepare(case: Case) -> Run:
        if "pixels" in case:
            given = np.load(case["pixels"])
            return lambda: _in_steps(given, embed, size)
        paths = [Path(name) for name in case["images"]]
        load = LOADERS[loading]()

        def one_after_the_other() -> NDArray[Any]:
            return np.concatenate([embed(load(path)) for path in paths])

        def decoded_ahead() -> NDArray[Any]:
            decoded, found = loaded_ahead(load, paths, spec["threads"] if on_gpu else 1), []
            while step := list(islice(decoded, size)):
                found.append(embed(np.concatenate(step)))
            return np.concatenate(found)

        return decoded_ahead if on_gpu or loading == PILLOW else one_after_the_other

    return prepare


def _in_steps(pixels: NDArray[np.uint8], embed: _Embed, size: int) -> NDArray[Any]:
    return np.concatenate([embed(pixels[start : start + size]) for start in range(0, len(pixels), size)])


def _transform() -> Any:
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    return create_chest_xray_transform_for_inference(_RESIZE, _CROP)


def _model(spec: Spec) -> Any:
    import torch
    from health_multimodal.image import ImageModel

    torch.set_num_threads(spec["threads"])
    # PyTorch leaves TF32 on for convolutions, which would be 2e-4 off.
    torch.backends.cudnn.allow_tf32 = False
    weights = Path(spec["checkpoint"]) / _WEIGHTS
    model = ImageModel("resnet50", joint_feature_size=128, pretrained_model_path=weights).eval()
    return model.to(spec.get("device", PROCESSOR))


def _embed(model: Any, pixels: NDArray[np.uint8], into: Callable[[Any], Any]) -> NDArray[np.float32]:
    import torch

    # Not inference_mode, which torch.compile refuses for this model's loaded weights.
    with torch.no_grad():
        given = torch.from_numpy(pixels).to(next(model.parameters()).device)
        batch = into(given.float().div(255)[:, None].expand(-1, 3, -1, -1))
        projected = model(batch).projected_global_embedding
        normalized: NDArray[np.float32] = torch.nn.functional.normalize(projected.float(), dim=-1).cpu().numpy()
        return normalized


TORCH_IMAGES: Mapping[str, Mapping[str, Open]] = {
    "reference": {"images": _reference},
    "torch-fp32": {"images": _tuned("float32")},
    "torch-bf16": {"images": _tuned("bfloat16")},
    "torch-compile": {"images": _tuned("float32", compiled=True)},
    "torch-compile-bf16": {"images": _tuned("bfloat16", compiled=True)},
    "torch-fp16": {"images": _tuned("float16")},
    "torch-compile-fp16": {"images": _tuned("float16", compiled=True)},
}
