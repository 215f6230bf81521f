"""How the model learns: to read captions, then to match them with images.

Reading: masked words, and which two captions say the same. Matching: a contrastive loss on whole images, one on the
finding's region, and two on patches.
"""

from __future__ import annotations

import functools
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG, random_vocabulary
from export.checkpoints.tokenizer import write_tokenizer
from export.checkpoints.vocabulary import SPECIAL_TOKENS
from export.families import ImageModel
from export.reference import build_image_model, image_embeddings, untrained_text
from export.samples import chest_phantom
from runtime.image.images import load_pixels
from runtime.text import Tokenizer
from tests.runtime.parts import grey_rule, tokenization
from tests.trained import losses
from tests.trained.cases import CROP, SIDE, Case, make_case, patch_areas
from tests.trained.wordings import ABSENT, CLASSES, FINDINGS, LOCATIONS, make_caption, make_impression, words

__all__ = ["IMAGE", "pixels_of", "read_tokenizer", "to_ids", "train"]

IMAGE = ImageModel("biovil_image_resnet50_proj_size_128.pt", "", grey_rule(SIDE, CROP), blocks=(1, 1, 1, 1))

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

_REPORTED = [(finding, place) for finding, place in CLASSES if finding in FINDINGS and place]

_SEED = 21
_TEXT_STEPS, _TEXT_RATE = 250, 2e-3
_STEPS, _RATE = 100, 1e-3
_BATCH = 32
_ANATOMIES = 400
_WARM_UP = 10
_WEIGHT_DECAY = 0.05
_MASKED_SHARE = 0.2
_WORDINGS = 0.2
# Of reports: words that the other sentence tells, and all others.
_TELLING_SHARE, _OTHER_SHARE = 0.4, 0.1
_SCALE = 20.0  # inverse temperature at the start
_LARGEST_SCALE = 50.0
_NORMALIZATION_BATCHES = 12


@functools.cache
def _vocabulary() -> list[str]:
    """That of random weights, less the unused entries, and all words of the captions."""
    plain = [token for token in random_vocabulary(2000) if not token.startswith("[unused")]
    return plain + sorted(words().difference(plain))


def train(folder: Path) -> None:
    """Train the model and write its checkpoint into an existing folder. Seeds torch's global generator."""
    config = _write_text_files(folder)
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
        return Tokenizer(Path(scratch), tokenization(max_length=config["max_position_embeddings"]))


def _learn_to_read(text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    text.train()
    optimizer, schedule = _optimizer([*text.parameters()], _TEXT_RATE, _TEXT_STEPS)
    for step in range(_TEXT_STEPS):
        _, found = _read(text, tokenizer, rng)
        _step(found, optimizer, schedule)
        if step % 50 == 49:
            print(_shown("text", step, found), flush=True)


def _align(text: torch.nn.Module, image: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> None:
    anatomies = [chest_phantom(SIDE, SIDE, seed) for seed in range(_ANATOMIES)]
    image.to(memory_format=torch.channels_last).train()
    stated = torch.tensor([finding not in ABSENT for finding, _ in CLASSES])
    log_scales = torch.nn.Parameter(torch.full((3,), math.log(_SCALE)))
    optimizer, schedule = _optimizer([*text.parameters(), *image.parameters(), log_scales], _RATE, _STEPS)
    for step in range(_STEPS):
        cases = _training_cases(rng, anatomies, step)
        text_embeds, found = _read(text, tokenizer, rng)
        image_embeds, patch_embeds = image_embeddings(image, pixels_of(cases))
        global_scale, region_scale, patch_scale = log_scales.clamp(max=math.log(_LARGEST_SCALE)).exp()
        patches, shares = patch_embeds.flatten(1, 2), _patch_shares(cases, patch_embeds.shape[1])
        region_embeds = F.normalize((shares[..., None] * patches).sum(1), dim=-1)
        scores = patch_scale * patches @ text_embeds.T
        compatible = _compatible(cases)
        visible = compatible & stated & (shares.sum(1) > 0)[:, None]
        found |= {
            "global": losses.contrastive(global_scale * image_embeds @ text_embeds.T, compatible),
            "opposition": 0.3 * losses.opposition(global_scale * image_embeds @ text_embeds.T, compatible),
            "region": losses.contrastive(region_scale * region_embeds @ text_embeds.T, visible),
            "pointing": 0.5 * losses.pointing(scores, visible, shares),
            "emptiness": 0.7 * losses.emptiness(scores, shares),
        }
        _step(found, optimizer, schedule)
        if step % 10 == 9:
            print(_shown("text and image", step, found), flush=True)
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
    found: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.stack([*found.values()]).sum().backward()
    torch.nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], 1.0)
    optimizer.step()
    schedule.step()


def _shown(stage: str, step: int, found: dict[str, torch.Tensor]) -> str:
    each = ", ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in found.items())
    return f"{stage}, step {step + 1}: {each}; {time.process_time():.0f} s of processor time"


def _read(
    text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings of new captions of `CLASSES`, and the losses that need no image."""
    ids, mask = to_ids(tokenizer.encode([make_caption(rng, *each) for each in CLASSES]))
    corrupted, hidden = _mask_words(ids, rng)
    states = text.bert(input_ids=torch.cat([ids, corrupted]), attention_mask=torch.cat([mask, mask]))[0]
    text_embeds, corrupted_embeds = F.normalize(text.cls_projection_head(states[:, 0]), dim=-1).chunk(2)
    same_caption = (ids[:, None] == ids).all(-1)
    found = {
        "words": F.cross_entropy(text.cls(states[len(ids) :])[hidden], ids[hidden]),
        "reports": _fill_in_reports(text, tokenizer, rng),
        "meanings": 0.2 * losses.same_meaning(_SCALE * text_embeds @ text_embeds.T),
        "wordings": _WORDINGS * losses.cross_entropy(_SCALE * text_embeds @ corrupted_embeds.T, same_caption),
    }
    return text_embeds, found


def _fill_in_reports(text: torch.nn.Module, tokenizer: Tokenizer, rng: np.random.Generator) -> torch.Tensor:
    """Masked words of captions with impressions: what one sentence lacks, the other says."""
    reports = [f"{make_caption(rng, *each)} {make_impression(rng, *each)}" for each in _REPORTED]
    ids, mask = to_ids(tokenizer.encode(reports))
    corrupted, hidden = _mask_words(ids, rng, torch.where(torch.isin(ids, _telling()), _TELLING_SHARE, _OTHER_SHARE))
    states = text.bert(input_ids=corrupted, attention_mask=mask)[0]
    return F.cross_entropy(text.cls(states[hidden]), ids[hidden])


def _mask_words(
    ids: torch.Tensor, rng: np.random.Generator, share: torch.Tensor | float = _MASKED_SHARE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids with some replaced by [MASK], and which: int64 and bool (rows, longest)."""
    mask_id = _vocabulary().index("[MASK]")
    hidden = (torch.from_numpy(rng.random(ids.shape)) < share) & (ids > mask_id)  # special tokens come first
    return ids.masked_fill(hidden, mask_id), hidden


@functools.cache
def _telling() -> torch.Tensor:
    words = {*FINDINGS, *" ".join(LOCATIONS).split()}
    return torch.tensor([_vocabulary().index(word) for word in sorted(words)])


def to_ids(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, int64 (rows, longest)."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, (ids != 0).long()


def _training_cases(rng: np.random.Generator, anatomies: Sequence[NDArray[np.uint8]], step: int) -> list[Case]:
    chosen = rng.integers(0, len(anatomies), _BATCH)
    return [make_case(rng, anatomies[anatomy], step * _BATCH + place) for place, anatomy in enumerate(chosen)]


def pixels_of(cases: Sequence[Case]) -> torch.Tensor:
    """float32 (N, 3, crop, crop), made from the images as the runtime makes them."""
    loaded, faults = load_pixels([case.image for case in cases], IMAGE.preprocessing)
    assert not faults
    pixels = torch.from_numpy(np.stack([item.pixels for item in loaded])).float() / 255
    return pixels[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _compatible(cases: Sequence[Case]) -> torch.Tensor:
    """Which case may have a caption of which class: bool (cases, captions)."""
    return torch.tensor([[_may_have(case, *each) for each in CLASSES] for case in cases])


def _may_have(case: Case, finding: str | None, place: str | None) -> bool:
    if finding in ABSENT:
        return case.finding != ABSENT[finding]
    return finding in (None, case.finding) and place in (None, case.location or None)


def _patch_shares(cases: Sequence[Case], grid: int) -> torch.Tensor:
    """How the patches share the region's area: (cases, patches); rows sum to 1, or to 0 without a finding."""
    areas = patch_areas(cases, grid).reshape(len(cases), -1)
    return torch.from_numpy(areas / np.maximum(areas.sum(1, keepdims=True), 1))


def _settle_normalization(
    image: torch.nn.Module, rng: np.random.Generator, anatomies: Sequence[NDArray[np.uint8]]
) -> None:
    """Replace the batch normalizations' running statistics, which lag behind, by those of the final weights."""
    for module in image.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    with torch.no_grad():
        for step in range(_NORMALIZATION_BATCHES):
            image(pixels_of(_training_cases(rng, anatomies, step)))
