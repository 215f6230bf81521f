"""How the model learns: to read captions, then to match them with images.

Reading: masked words, and which two captions say the same. Matching: a contrastive loss on whole images, one on the
finding's region, and two on patches.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import math
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from export.families import ImageModel
from export.models import BioViLImageModel, CXRBertModel, bert_config
from export.phantom import chest_phantom
from export.random_checkpoint import CXR_BERT_CONFIG, random_vocabulary
from export.tokenizer import SPECIAL_TOKENS, write_tokenizer
from runtime.images import load_pixels
from runtime.tokenization import Tokenizer
from tests.trained import cases as wordings
from tests.trained.cases import CROP, FINDINGS, LOCATIONS, NO_FINDING, SIDE, Case, make_caption, make_case, patch_areas

__all__ = ["CLASSES", "IMAGE", "pixels_of", "read_tokenizer", "to_ids", "train"]

IMAGE = ImageModel("biovil_image_resnet50_proj_size_128.pt", "", blocks=(1, 1, 1, 1), resize=SIDE, crop=CROP)

_CONFIG = {
    **CXR_BERT_CONFIG,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    # With BERT's 0.02 and dropout, so small a model needs many times as long before it tells captions apart.
    "initializer_range": 0.05,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}

# Finding and place of each caption of a step, two of each class. None leaves it open; no finding has no place.
_FULL = 2 * [*itertools.product(FINDINGS, LOCATIONS), (NO_FINDING, None)]
_FINDING_ONLY = 2 * [*((finding, None) for finding in FINDINGS), (NO_FINDING, None)]
_PLACE_ONLY = 2 * [(None, place) for place in LOCATIONS]
CLASSES: list[tuple[str | None, str | None]] = [*_FULL, *_FINDING_ONLY, *_PLACE_ONLY]
# Captions of one group exclude each other, those of different groups do not.
_FULL_GROUP = slice(0, len(_FULL))
_FINDING_GROUP = slice(_FULL_GROUP.stop, _FULL_GROUP.stop + len(_FINDING_ONLY))
_PLACE_GROUP = slice(_FINDING_GROUP.stop, len(CLASSES))
_GROUPS = (_FULL_GROUP, _FINDING_GROUP, _PLACE_GROUP)

_SEED = 20
_TEXT_STEPS, _TEXT_RATE = 250, 2e-3
_STEPS, _RATE = 100, 1e-3
_BATCH = 32
_ANATOMIES = 400
_WARM_UP = 10
_WEIGHT_DECAY = 0.05
_MASKED_SHARE = 0.2
_WORDINGS = 0.2
_SCALE = 20.0  # inverse temperature at the start
_LARGEST_SCALE = 50.0
_NORMALIZATION_BATCHES = 12


@functools.cache
def _vocabulary() -> list[str]:
    """That of random weights, less the unused entries, and all words of the captions."""
    texts = [*wordings.TEMPLATES, *wordings.NEGATIVES, *wordings.PLACES, *wordings.ANYWHERE]
    texts += [*itertools.chain(*wordings.SYNONYMS.values()), *wordings.ANY_FINDING, *LOCATIONS]
    texts += ["a an", *itertools.chain(*wordings.finding_prompts().values(), *wordings.location_prompts().values())]
    words = {word for text in texts for word in re.findall(r"\w+", re.sub("{.*?}", "", text).lower())}
    plain = [token for token in random_vocabulary(2000) if not token.startswith("[unused")]
    return plain + sorted(words.difference(plain))


def train(folder: Path) -> None:
    """Train the model and write its checkpoint into an existing folder. Seeds torch's global generator."""
    config = _write_text_files(folder)
    tokenizer = read_tokenizer(folder)
    rng = np.random.default_rng([1, _SEED])
    torch.manual_seed(_SEED)
    text, image = CXRBertModel(bert_config(config)), BioViLImageModel(IMAGE)
    _learn_to_read(text, tokenizer, rng)
    _align(text, image, tokenizer, rng)
    state = dict(text.state_dict())
    # A buffer that transformers 4.18 still wrote, and that the published file carries.
    state["bert.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
    torch.save(state, folder / "pytorch_model.bin")
    state = {name: value.contiguous() for name, value in image.state_dict().items()}
    torch.save(state, folder / IMAGE.weights_name)


def _write_text_files(folder: Path) -> dict[str, object]:
    vocabulary = _vocabulary()
    config = {**_CONFIG, "vocab_size": len(vocabulary)}
    settings = {"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", **SPECIAL_TOKENS}
    files = {"config.json": config, "tokenizer_config.json": settings, "special_tokens_map.json": SPECIAL_TOKENS}
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    return config


def read_tokenizer(checkpoint: Path) -> Tokenizer:
    """The runtime's tokenizer, made of a checkpoint's files as an export makes it."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        write_tokenizer(checkpoint, config, Path(scratch))
        return Tokenizer(Path(scratch), config["max_position_embeddings"])


def _learn_to_read(text: CXRBertModel, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    text.train()
    optimizer, schedule = _optimizer([*text.parameters()], _TEXT_RATE, _TEXT_STEPS)
    for step in range(_TEXT_STEPS):
        _, losses = _read(text, tokenizer, rng)
        _step(losses, optimizer, schedule)
        if step % 50 == 49:
            print(_shown("text", step, losses), flush=True)


def _align(text: CXRBertModel, image: BioViLImageModel, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    anatomies = [chest_phantom(SIDE, SIDE, seed) for seed in range(_ANATOMIES)]
    image.to(memory_format=torch.channels_last).train()
    forward = inspect.unwrap(BioViLImageModel.forward)  # without its no_grad
    log_scales = torch.nn.Parameter(torch.full((3,), math.log(_SCALE)))
    optimizer, schedule = _optimizer([*text.parameters(), *image.parameters(), log_scales], _RATE, _STEPS)
    for step in range(_STEPS):
        cases = _training_cases(rng, anatomies, step)
        text_embeds, losses = _read(text, tokenizer, rng)
        image_embeds, patch_embeds = forward(image, pixels_of(cases))
        global_scale, region_scale, patch_scale = log_scales.clamp(max=math.log(_LARGEST_SCALE)).exp()
        patches, shares = patch_embeds.flatten(1, 2), _patch_shares(cases, patch_embeds.shape[1])
        region_embeds = F.normalize((shares[..., None] * patches).sum(1), dim=-1)
        scores = patch_scale * patches @ text_embeds.T
        compatible = _compatible(cases)
        visible = compatible & (shares.sum(1) > 0)[:, None]
        losses |= {
            "global": _contrastive(global_scale * image_embeds @ text_embeds.T, compatible),
            "region": _contrastive(region_scale * region_embeds @ text_embeds.T, visible),
            "pointing": 0.5 * _pointing(scores, visible, shares),
            "emptiness": 0.5 * _emptiness(scores, shares),
        }
        _step(losses, optimizer, schedule)
        if step % 10 == 9:
            print(_shown("text and image", step, losses), flush=True)
    _settle_normalization(image, rng, anatomies)


def _optimizer(
    parameters: Sequence[torch.nn.Parameter], rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, decaying matrices only; a short warm-up, then a cosine."""
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)

    def share(step: int) -> float:
        return min((step + 1) / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def _step(
    losses: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.stack([*losses.values()]).sum().backward()
    torch.nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], 1.0)
    optimizer.step()
    schedule.step()


def _shown(stage: str, step: int, losses: dict[str, torch.Tensor]) -> str:
    each = ", ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in losses.items())
    return f"{stage}, step {step + 1}: {each}; {time.process_time():.0f} s of processor time"


def _read(
    text: CXRBertModel, tokenizer: Tokenizer, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings of new captions of `CLASSES`, and the losses that need no image."""
    ids, mask = to_ids(tokenizer.encode([make_caption(rng, *each) for each in CLASSES]))
    mask_id = _vocabulary().index("[MASK]")
    hidden = torch.from_numpy(rng.random(ids.shape) < _MASKED_SHARE) & (ids > mask_id)  # special tokens come first
    corrupted = ids.masked_fill(hidden, mask_id)
    states = text.bert(input_ids=torch.cat([ids, corrupted]), attention_mask=torch.cat([mask, mask]))[0]
    text_embeds, corrupted_embeds = F.normalize(text.cls_projection_head(states[:, 0]), dim=-1).chunk(2)
    same_caption = (ids[:, None] == ids).all(-1)
    losses = {
        "words": F.cross_entropy(text.cls(states[len(ids) :])[hidden], ids[hidden]),
        "meanings": 0.2 * _same_meaning(_SCALE * text_embeds @ text_embeds.T),
        "wordings": _WORDINGS * _cross_entropy(_SCALE * text_embeds @ corrupted_embeds.T, same_caption),
    }
    return text_embeds, losses


def to_ids(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, int64 (rows, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, (ids != 0).long()


def _training_cases(rng: np.random.Generator, anatomies: Sequence[NDArray[np.uint8]], step: int) -> list[Case]:
    chosen = rng.integers(0, len(anatomies), _BATCH)
    return [make_case(rng, anatomies[anatomy], step * _BATCH + place) for place, anatomy in enumerate(chosen)]


def pixels_of(cases: Sequence[Case]) -> torch.Tensor:
    """float32 (N, 3, crop, crop), made from the images as the runtime makes them."""
    loaded, faults = load_pixels([case.image for case in cases], SIDE, CROP)
    assert not faults
    pixels = torch.from_numpy(np.stack([item.pixels for item in loaded])).float() / 255
    return pixels[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _compatible(cases: Sequence[Case]) -> torch.Tensor:
    """Which case may have a caption of which class: bool (cases, captions)."""
    return torch.tensor(
        [
            [finding in (None, case.finding) and place in (None, case.location or None) for finding, place in CLASSES]
            for case in cases
        ]
    )


def _patch_shares(cases: Sequence[Case], grid: int) -> torch.Tensor:
    """How the patches share the region's area: (cases, patches); rows sum to 1, or to 0 without a finding."""
    areas = patch_areas(cases, grid).reshape(len(cases), -1)
    return torch.from_numpy(areas / np.maximum(areas.sum(1, keepdims=True), 1))


def _contrastive(logits: torch.Tensor, compatible: torch.Tensor) -> torch.Tensor:
    """InfoNCE in both directions with any number of positives; (images, captions) twice. Images choose by group."""
    losses = [_cross_entropy(logits.T, compatible.T)]
    losses += [_cross_entropy(logits[:, group], compatible[:, group]) for group in _GROUPS]
    return torch.stack(losses).mean()


def _cross_entropy(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy with evenly weighted positives; rows without any do not count."""
    counted = positive.any(1)
    weights = positive[counted].float()
    return F.cross_entropy(logits[counted], weights / weights.sum(1, keepdim=True))


def _same_meaning(logits: torch.Tensor) -> torch.Tensor:
    """InfoNCE between the two captions of each class, as CXR-BERT learns from the sections of one report."""
    losses = []
    for group in _GROUPS:
        size = (group.stop - group.start) // 2
        losses.append(F.cross_entropy(logits[group, group][:size, size:], torch.arange(size)))
    return torch.stack(losses).mean()


def _pointing(logits: torch.Tensor, visible: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """For every caption of what an image shows somewhere: cross-entropy over the patches, the truth being where.

    Args:
        logits: (images, patches, captions).
        visible: bool (images, captions).
        shares: (images, patches), see `_patch_shares`.
    """
    which_image, which_caption = visible.nonzero(as_tuple=True)
    return F.cross_entropy(logits[which_image, :, which_caption], shares[which_image])


def _emptiness(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Patches that the finding does not touch choose, of the captions that leave the place open, those of none."""
    none = torch.tensor([finding == NO_FINDING for finding, _ in _FINDING_ONLY])
    empty = logits[shares == 0][:, _FINDING_GROUP]
    return _cross_entropy(empty, none.expand(len(empty), -1))


def _settle_normalization(
    image: BioViLImageModel, rng: np.random.Generator, anatomies: Sequence[NDArray[np.uint8]]
) -> None:
    """Replace the batch normalizations' running statistics, which lag behind, by those of the final weights."""
    for module in image.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    for step in range(_NORMALIZATION_BATCHES):
        image(pixels_of(_training_cases(rng, anatomies, step)))
