"""A small BioViL with trained weights: CXR-BERT and a ResNet that share a space.

It learns within about two minutes of processor time to match synthetic radiographs with captions. Architectures,
pixels, tokenizer and the checkpoint's layout are the project's own; only the sizes are smaller. Reading: masked words,
and which two captions say the same. Matching: a contrastive loss on whole images, one on the finding's region, and two
on patches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

import export.reference.image
import export.reference.text
import export.samples.phantom
from export.families import FAMILIES, Family, ImageModel
from export.reference import TextReference, build_image_model, image_embeddings, untrained_text
from runtime.image.images import load_pixels
from runtime.text import Tokenizer
from tests.runtime.parts import grey_rule
from tests.trained import cases as _cases
from tests.trained import wordings as _wordings
from tests.trained.cases import CROP, SIDE, Case
from tests.trained.models import learning, losses, reading
from tests.trained.models.cache import cached
from tests.trained.models.learning import anatomies, compatible, optimizer, patch_shares, shown, take_step
from tests.trained.models.reading import mask_words, read_tokenizer, to_ids
from tests.trained.wordings import CLASSES, make_caption

__all__ = ["FAMILY", "checkpoint", "load_models", "reference_images", "reference_texts", "train"]

IMAGE = ImageModel("biovil_image_resnet50_proj_size_128.pt", "", grey_rule(SIDE, CROP), blocks=(1, 1, 1, 1))
FAMILY: Family = replace(
    FAMILIES["biovil"], name="trained", summary="a small joint model trained on phantoms", image=IMAGE
)

_SEED = 21
_TEXT_STEPS, _TEXT_RATE = 250, 2e-3
_STEPS, _RATE = 100, 1e-3
_BATCH = 32
_WORDINGS = 0.2
_SCALE = 20.0  # inverse temperature at the start
_LARGEST_SCALE = 50.0
_NORMALIZATION_BATCHES = 12


def checkpoint(folder: Path | None = None) -> Path:
    """The trained model in the hub's layout; see `cached`."""
    made_of = (
        _cases,
        _wordings,
        learning,
        losses,
        reading,
        export.reference.text,
        export.reference.image,
        export.samples.phantom,
    )
    return cached(train, made_of, "\n".join(reading.vocabulary()), folder)


def load_models(checkpoint: Path) -> tuple[TextReference, torch.nn.Module]:
    """The PyTorch models of the checkpoint, in evaluation mode."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    text, image = untrained_text(config), build_image_model(IMAGE)
    state = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    text.load_state_dict({name: value for name, value in state.items() if not name.endswith("position_ids")})
    image.load_state_dict(torch.load(checkpoint / IMAGE.weights_name, weights_only=True))
    return TextReference(text), image.eval()


def reference_texts(text: TextReference, checkpoint: Path) -> Callable[[list[str]], NDArray]:
    """Texts → float32 (N, D), not normalized, by PyTorch."""
    tokenizer = read_tokenizer(checkpoint)
    return lambda texts: text.embed(*to_ids(tokenizer.encode(texts))).numpy()


def reference_images(image: torch.nn.Module, cases: Sequence[Case]) -> tuple[NDArray, NDArray]:
    """Embeddings of the cases by PyTorch, of the reference package's pixels.

    Returns:
        float32 (N, 128) and, of patches, (N, 4, 4, 128), unit norm.
    """
    from health_multimodal.image.data.io import remap_to_uint8
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference

    transform = create_chest_xray_transform_for_inference(SIDE, CROP)
    pixels = torch.stack([transform(Image.fromarray(remap_to_uint8(case.image)).convert("L")) for case in cases])
    with torch.no_grad():
        batches = [image_embeddings(image, pixels[start : start + _BATCH]) for start in range(0, len(cases), _BATCH)]
    image_embeds, patch_embeds = zip(*batches, strict=True)
    return torch.cat(image_embeds).numpy(), torch.cat(patch_embeds).numpy()


def train(folder: Path) -> None:
    """Train the model and write its checkpoint into an existing folder. Seeds torch's global generator."""
    config = reading.write_text_files(folder, reading.CONFIG, "CXRBertTokenizer")
    tokenizer = read_tokenizer(folder)
    rng = np.random.default_rng([1, _SEED])
    torch.manual_seed(_SEED)
    text, image = untrained_text(config), build_image_model(IMAGE)
    _learn_to_read(text, tokenizer, rng)
    _align(text, image, tokenizer, rng)
    state = dict(text.state_dict())
    # A buffer that transformers 4.18 still wrote, and that the published file carries.
    state["bert.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
    torch.save(state, folder / "pytorch_model.bin")
    state = {name: value.contiguous() for name, value in image.state_dict().items()}
    torch.save(state, folder / IMAGE.weights_name)


def _learn_to_read(text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    text.train()
    chosen, schedule = optimizer([*text.parameters()], _TEXT_RATE, _TEXT_STEPS)
    for step in range(_TEXT_STEPS):
        _, found = _read(text, tokenizer, rng)
        take_step(found, chosen, schedule)
        if step % 50 == 49:
            print(shown("text", step, found), flush=True)


def _align(text: torch.nn.Module, image: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    drawn_into = anatomies()
    image.to(memory_format=torch.channels_last).train()
    log_scales = torch.nn.Parameter(torch.full((3,), math.log(_SCALE)))
    chosen, schedule = optimizer([*text.parameters(), *image.parameters(), log_scales], _RATE, _STEPS)
    for step in range(_STEPS):
        cases = learning.training_cases(rng, drawn_into, step, _BATCH)
        text_embeds, found = _read(text, tokenizer, rng)
        image_embeds, patch_embeds = image_embeddings(image, _pixels_of(cases))
        global_scale, region_scale, patch_scale = log_scales.clamp(max=math.log(_LARGEST_SCALE)).exp()
        patches, shares = patch_embeds.flatten(1, 2), patch_shares(cases, patch_embeds.shape[1])
        region_embeds = F.normalize((shares[..., None] * patches).sum(1), dim=-1)
        scores = patch_scale * patches @ text_embeds.T
        fitting = compatible(cases)
        visible = fitting & learning.STATED & (shares.sum(1) > 0)[:, None]
        found |= {
            "global": losses.contrastive(global_scale * image_embeds @ text_embeds.T, fitting),
            "opposition": 0.3 * losses.opposition(global_scale * image_embeds @ text_embeds.T, fitting),
            "region": losses.contrastive(region_scale * region_embeds @ text_embeds.T, visible),
            "pointing": 0.5 * losses.pointing(scores, visible, shares),
            "emptiness": 0.7 * losses.emptiness(scores, shares),
        }
        take_step(found, chosen, schedule)
        if step % 10 == 9:
            print(shown("text and image", step, found), flush=True)
    _settle_normalization(image, rng, drawn_into)


def _read(
    text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings of new captions of `CLASSES`, and the losses that need no image."""
    ids, mask = to_ids(tokenizer.encode([make_caption(rng, *each) for each in CLASSES]))
    corrupted, hidden = mask_words(ids, rng)
    states = text.bert(input_ids=torch.cat([ids, corrupted]), attention_mask=torch.cat([mask, mask]))[0]
    text_embeds, corrupted_embeds = F.normalize(text.cls_projection_head(states[:, 0]), dim=-1).chunk(2)
    same_caption = (ids[:, None] == ids).all(-1)
    found = {
        "words": F.cross_entropy(text.cls(states[len(ids) :])[hidden], ids[hidden]),
        "reports": reading.fill_in_reports(text, tokenizer, rng),
        "meanings": 0.2 * losses.same_meaning(_SCALE * text_embeds @ text_embeds.T),
        "wordings": _WORDINGS * losses.cross_entropy(_SCALE * text_embeds @ corrupted_embeds.T, same_caption),
    }
    return text_embeds, found


def _pixels_of(cases: Sequence[Case]) -> torch.Tensor:
    """float32 (N, 3, crop, crop), made from the images as the runtime makes them."""
    loaded, faults = load_pixels([case.image for case in cases], IMAGE.preprocessing)
    assert not faults
    pixels = torch.from_numpy(np.stack([item.pixels for item in loaded])).float() / 255
    return pixels[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _settle_normalization(
    image: torch.nn.Module, rng: np.random.Generator, drawn_into: Sequence[NDArray[np.uint8]]
) -> None:
    """Replace the batch normalizations' running statistics, which lag behind, by those of the final weights."""
    for module in image.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    with torch.no_grad():
        for step in range(_NORMALIZATION_BATCHES):
            image(_pixels_of(learning.training_cases(rng, drawn_into, step, _BATCH)))
