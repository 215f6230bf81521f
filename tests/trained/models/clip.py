"""A small CLIP with trained weights: a ViT and a causal transformer that share a space.

It learns within about two minutes of processor time, on the captions and radiographs of the small BioViL. The classes
are transformers' own, and the checkpoint is as on the hub, tokenizer and preprocessor_config.json among its files. Its
byte-pair merges are learned of the captions: common words are one token, rare ones several.

There are two checkpoints of one function: as it was trained, so small a model has no outliers, and hardly notices any
rounding; the other has them (see `outliers`), as large ones do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import export.samples.phantom
from tests.trained import cases as _cases
from tests.trained import wordings as _wordings
from tests.trained.cases import CROP, SIDE, Case
from tests.trained.models import learning, losses, outliers
from tests.trained.models.cache import cached
from tests.trained.models.learning import anatomies, compatible, optimizer, patch_shares, shown, take_step
from tests.trained.models.outliers import add_outliers
from tests.trained.wordings import CLASSES, make_caption

__all__ = ["GRID", "KINDS", "MEAN", "STD", "checkpoint", "load_model", "reference_images", "reference_texts", "train"]

_PATCH, _SIZE, _HIDDEN, _HEADS = 16, 64, 128, 4
GRID = CROP // _PATCH
KINDS = ("plain", "outliers")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 160
_TOWER = {"hidden_size": _HIDDEN, "intermediate_size": 2 * _HIDDEN, "num_attention_heads": _HEADS}
_SEED = 5
_STEPS, _RATE = 600, 2e-3
_BATCH = 32
_SCALE = 20.0  # inverse temperature at the start
_LARGEST_SCALE = 50.0


def checkpoint(kind: str, folder: Path | None = None) -> Path:
    """One of `KINDS` in the hub's layout; see `cached`."""
    return cached(train, (_cases, _wordings, learning, losses, outliers, export.samples.phantom), folder=folder) / kind


def load_model(checkpoint: Path) -> CLIPModel:
    """transformers' model of the checkpoint, in evaluation mode."""
    return CLIPModel.from_pretrained(str(checkpoint)).eval()


def reference_texts(model: CLIPModel, checkpoint: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    """Texts → float32 (N, 64), not normalized, by PyTorch."""
    tokenizer = CLIPTokenizer.from_pretrained(str(checkpoint))

    def encode(texts: list[str]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = _embed_texts(model, _to_ids(tokenizer, texts)).numpy()
        return found

    return encode


def reference_images(
    model: CLIPModel, checkpoint: Path, cases: Sequence[Case]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of the cases by PyTorch, of transformers' pixels.

    Returns:
        float32 (N, 64), and (N, 8, 8, 64) of patches: their states, normalized and projected as that of the class
        token is. Unit norm.
    """
    processor = CLIPImageProcessorPil.from_pretrained(str(checkpoint))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    for start in range(0, len(cases), _BATCH):
        images = [Image.fromarray(case.image) for case in cases[start : start + _BATCH]]
        with torch.no_grad():
            found.append(_embed_images(model, processor(images, return_tensors="pt")["pixel_values"]))
    image_embeds, patch_embeds = (torch.cat(each) for each in zip(*found, strict=True))
    return image_embeds.numpy(), patch_embeds.unflatten(1, (GRID, GRID)).numpy()


def train(folder: Path) -> None:
    """Train the model and write both checkpoints into an existing folder. Seeds torch's global generator."""
    for kind in KINDS:
        (folder / kind).mkdir()
        tokenizer = _write_tokenizer(folder / kind)
        _write_preprocessor(folder / kind)
    rng = np.random.default_rng([7, _SEED])
    torch.manual_seed(_SEED)
    model = CLIPModel(CLIPConfig(**_config(len(tokenizer)))).train()
    drawn_into = anatomies()
    model.logit_scale.data.fill_(math.log(_SCALE))
    log_scales = torch.nn.Parameter(torch.full((2,), math.log(_SCALE)))  # of regions and of patches
    chosen, schedule = optimizer([*model.parameters(), log_scales], _RATE, _STEPS)
    for step in range(_STEPS):
        cases = learning.training_cases(rng, drawn_into, step, _BATCH)
        text_embeds = F.normalize(
            _embed_texts(model, _to_ids(tokenizer, [make_caption(rng, *each) for each in CLASSES])), dim=-1
        )
        image_embeds, patches = _embed_images(model, _pixels_of(cases))
        for scale in (model.logit_scale, log_scales):
            scale.data.clamp_(max=math.log(_LARGEST_SCALE))
        region_scale, patch_scale = log_scales.exp()
        shares, fitting = patch_shares(cases, GRID), compatible(cases)
        region_embeds = F.normalize((shares[..., None] * patches).sum(1), dim=-1)
        visible = fitting & learning.STATED & (shares.sum(1) > 0)[:, None]
        logits, scores = model.logit_scale.exp() * image_embeds @ text_embeds.T, patch_scale * patches @ text_embeds.T
        found = {
            "global": losses.contrastive(logits, fitting),
            "opposition": 0.3 * losses.opposition(logits, fitting),
            "meanings": 0.2 * losses.same_meaning(_SCALE * text_embeds @ text_embeds.T),
            "region": losses.contrastive(region_scale * region_embeds @ text_embeds.T, visible),
            "pointing": 0.5 * losses.pointing(scores, visible, shares),
            "emptiness": 0.7 * losses.emptiness(scores, shares),
        }
        take_step(found, chosen, schedule)
        if step % 50 == 49:
            print(shown("text and image", step, found), flush=True)
    model.save_pretrained(folder / "plain")
    add_outliers(model.text_model.encoder, _SEED)
    add_outliers(model.vision_model.encoder, _SEED)
    model.save_pretrained(folder / "outliers")


def _config(vocabulary: int) -> dict[str, Any]:
    """config.json, its special tokens as the published ones have them: wrong, and never read but for the 2.

    With it transformers takes the state at the largest token id, which is the end.
    """
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    text = {"vocab_size": vocabulary, "max_position_embeddings": 77, "num_hidden_layers": 3, **special}
    vision = {"image_size": CROP, "patch_size": _PATCH, "num_hidden_layers": 4}
    sized = {"projection_dim": _SIZE, **_TOWER}
    return {"projection_dim": _SIZE, "text_config": {**text, **sized}, "vision_config": {**vision, **sized}}


def _write_tokenizer(folder: Path) -> CLIPTokenizer:
    """vocab.json and merges.txt in CLIP's order, and the files beside them."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,  # until every word is one token
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    rng = np.random.default_rng([8, _SEED])
    learner.train_from_iterator([make_caption(rng, *each) for _ in range(50) for each in CLASSES], trainer)
    merges = [" ".join(pair) for pair in json.loads(learner.to_str())["model"]["merges"][:_MERGES]]
    letters = sorted(alphabet)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, _START, _END])}
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    settings = {"do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(folder / "tokenizer_config.json", {**special, "add_prefix_space": False, **settings})
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def _write_preprocessor(folder: Path) -> None:
    settings = {
        "crop_size": CROP,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": MEAN,
        "image_std": STD,
        "resample": 3,
        "size": SIDE,
    }
    _write_json(folder / "preprocessor_config.json", settings)


def _write_json(file: Path, data: object) -> None:
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _to_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    ids: torch.Tensor = tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    return ids


def _embed_texts(model: CLIPModel, input_ids: torch.Tensor) -> torch.Tensor:
    """float32 (N, 64), not normalized. What follows the end does not change the state there."""
    embeds: torch.Tensor = model.text_projection(model.text_model(input_ids=input_ids).pooler_output)
    return embeds


def _embed_images(model: CLIPModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (N, 64) and, of patches, (N, 64 patches, 64), unit norm."""
    vision = model.vision_model
    found = vision(pixel_values=pixels)
    patches = vision.post_layernorm(found.last_hidden_state[:, 1:])
    image_embeds, patch_embeds = (model.visual_projection(states) for states in (found.pooler_output, patches))
    return F.normalize(image_embeds, dim=-1), F.normalize(patch_embeds, dim=-1)


def _pixels_of(cases: Sequence[Case]) -> torch.Tensor:
    """float32 (N, 3, crop, crop), as the image processor makes them; it takes longer."""
    margin = (SIDE - CROP) // 2
    crops = np.stack([case.image[margin : margin + CROP, margin : margin + CROP] for case in cases])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels: torch.Tensor = (torch.from_numpy(crops)[:, None].float() / 255 - mean) / std
    return pixels
