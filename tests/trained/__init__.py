"""A small joint model with trained weights: the oracle for reduced precision.

The embeddings of random weights mean nothing, so they cannot show what fp16 or int8 costs. This model learns within
about three minutes to match synthetic radiographs with captions, as BioViL does. The architectures, the pixels, the
tokenizer and the checkpoint's layout are the project's own; only the sizes are smaller. The checkpoint is cached until
something that determines its weights changes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import export.reference.image
import export.reference.text
import export.samples.phantom
from export.checkpoints.random_checkpoint import random_vocabulary
from export.families import FAMILIES, Family
from export.reference import TextReference, build_image_model, image_embeddings, untrained_text
from tests.trained import cases as _cases
from tests.trained import losses as _losses
from tests.trained import training as _training
from tests.trained import wordings as _wordings
from tests.trained.cases import Case, held_out_cases
from tests.trained.figures import CHANCE, figures

__all__ = [
    "CHANCE",
    "FAMILY",
    "Case",
    "figures",
    "held_out_cases",
    "load_models",
    "reference_images",
    "reference_texts",
    "trained_checkpoint",
    "write_calibration",
]

FAMILY: Family = replace(
    FAMILIES["biovil"], name="trained", summary="a small joint model trained on phantoms", image=_training.IMAGE
)

_ROOT = Path(__file__).resolve().parent.parent.parent
_BATCH = 32


def trained_checkpoint(folder: Path | None = None) -> Path:
    """Train the model, or take it from the cache.

    Args:
        folder: the cache; None takes $CXR_TRAINED_CACHE, else `.cache` in the repository.

    Returns:
        A folder in the hub's layout, named by the digest of what determines the weights.
    """
    cache = (folder or Path(os.environ.get("CXR_TRAINED_CACHE", _ROOT / ".cache"))).resolve()
    checkpoint = cache / f"trained-{_digest()}"
    if checkpoint.is_dir():
        return checkpoint
    cache.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix="training-", dir=cache))
    try:
        # A process of its own: it seeds torch's generator, and its threads sleep where they would otherwise spin, which
        # takes 2.5 times as long on processors that other work shares.
        subprocess.run(
            [sys.executable, "-m", "tests.trained", str(stage)],
            cwd=_ROOT,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            check=True,
        )
        stage.rename(checkpoint)
    except OSError:
        if not checkpoint.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return checkpoint


def load_models(checkpoint: Path) -> tuple[TextReference, torch.nn.Module]:
    """The PyTorch models of the checkpoint, in evaluation mode."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    text, image = untrained_text(config), build_image_model(_training.IMAGE)
    state = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    text.load_state_dict({name: value for name, value in state.items() if not name.endswith("position_ids")})
    image.load_state_dict(torch.load(checkpoint / _training.IMAGE.weights_name, weights_only=True))
    return TextReference(text), image.eval()


def reference_texts(text: TextReference, checkpoint: Path) -> Callable[[list[str]], NDArray]:
    """Texts → float32 (N, 128), not normalized, by PyTorch."""
    tokenizer = _training.read_tokenizer(checkpoint)
    return lambda texts: text.embed(*_training.to_ids(tokenizer.encode(texts))).numpy()


def reference_images(image: torch.nn.Module, cases: Sequence[Case]) -> tuple[NDArray, NDArray]:
    """Embeddings of the cases by PyTorch, of the reference package's pixels.

    Returns:
        float32 (N, 128) and, of patches, (N, 4, 4, 128), unit norm.
    """
    from health_multimodal.image.data.io import remap_to_uint8
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(_cases.SIDE, _cases.CROP)
    pixels = torch.stack([transform(Image.fromarray(remap_to_uint8(case.image)).convert("L")) for case in cases])
    with torch.no_grad():
        batches = [image_embeddings(image, pixels[start : start + _BATCH]) for start in range(0, len(cases), _BATCH)]
    image_embeds, patch_embeds = zip(*batches, strict=True)
    return torch.cat(image_embeds).numpy(), torch.cat(patch_embeds).numpy()


def write_calibration(folder: Path, images: int = 160, texts: int = 640, seed: int = 1) -> tuple[Path, Path]:
    """Write data of the kind that the model was trained on, to calibrate quantizers with and judge them by.

    Args:
        folder: an existing folder.
        images: number of images, all different.
        texts: number of captions, all different.
        seed: no image of `held_out_cases` with another seed is among them.

    Returns:
        A text file with a caption a line, and a folder of PNG files.
    """
    picture_folder = folder / "images"
    picture_folder.mkdir()
    for index, case in enumerate(held_out_cases(images, seed)):
        Image.fromarray(case.image).save(picture_folder / f"{index:04}.png")
    rng = np.random.default_rng(seed)
    captions: dict[str, None] = {}
    while len(captions) < texts:
        captions |= {_wordings.make_caption(rng, *each): None for each in _wordings.CLASSES}
    text_file = folder / "captions.txt"
    text_file.write_text("".join(f"{caption}\n" for caption in [*captions][:texts]), encoding="utf-8")
    return text_file, picture_folder


def _digest() -> str:
    digest = hashlib.sha256(torch.__version__.encode())
    digest.update("\n".join(random_vocabulary(2000)).encode())
    for module in (
        _cases,
        _losses,
        _training,
        _wordings,
        export.reference.text,
        export.reference.image,
        export.samples.phantom,
    ):
        digest.update(_code(Path(module.__file__)))
    return digest.hexdigest()[:16]


def _code(file: Path) -> bytes:
    """What a module does: its code without comments and docstrings, however it is laid out."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(module).encode()
