"""How far embeddings of lower precision are those of the reference, on held-out data.

Figures of texts and of images:

* mean_cosine, p1_cosine (the lowest percentile), min_cosine: of each embedding with the reference's;
* max_similarity_change: largest change of the cosine of any two held-out items;
* spearman: rank correlation of all pairwise similarities;
* neighbour_agreement: share of items whose nearest neighbour among the others is the same;
* triplets_kept (texts): share of the published triplets, of those that the reference has in order, that keep it;
* mean_patch_cosine, min_patch_cosine (images): of the patches; map_correlation: of similarity maps with queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export.samples import TRIPLETS
from runtime.engines import Session
from runtime.text import pad_batch, plan_batches

__all__ = [
    "HALF_GATES",
    "IMAGE_OUTPUTS",
    "TIERS",
    "embed_images",
    "embed_texts",
    "image_figures",
    "image_milliseconds",
    "median_milliseconds",
    "missed_gates",
    "text_figures",
    "text_milliseconds",
]

# Tier → figure → smallest value allowed, for int8.
TIERS: dict[str, Mapping[str, float]] = {
    "99": {"mean_cosine": 0.99, "neighbour_agreement": 0.95, "triplets_kept": 1.0},
    "99.9": {"mean_cosine": 0.999, "neighbour_agreement": 0.99, "triplets_kept": 1.0},
}
HALF_GATES: Mapping[str, float] = {"min_cosine": 0.9995, "triplets_kept": 1.0}

# Of image graphs; those that embed no patches have the first alone.
IMAGE_OUTPUTS = ("image_embeds", "patch_embeds")
_TOKEN_BUDGET = 1024
_IMAGE_BATCH = 4
_TIMED_RUNS = 9
_TIMED_TEXTS = (8, 64)

Embeds = NDArray[np.float32]


def embed_texts(session: Session, rows: Sequence[Sequence[int]], pad_token_id: int) -> Embeds:
    """Unit-norm embeddings of token ids: float32 (N, D), in the order given."""
    found: Embeds | None = None
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        input_ids, attention_mask = pad_batch([list(rows[index]) for index in batch], pad_token_id)
        embeds = session.run(["text_embeds"], {"input_ids": input_ids, "attention_mask": attention_mask})[0]
        if found is None:
            found = np.empty((len(rows), embeds.shape[1]), np.float32)
        found[batch] = embeds
    assert found is not None
    return found


def embed_images(
    session: Session, pixels: NDArray[np.uint8], outputs: Sequence[str] = IMAGE_OUTPUTS
) -> tuple[Embeds, ...]:
    """Embeddings of uint8 pixels, see `Preprocessing.shape`: float32 (N, D) and, of patches, (N, rows, columns, D)."""
    parts = [
        session.run(list(outputs), {"pixel_values": pixels[start : start + _IMAGE_BATCH]})
        for start in range(0, len(pixels), _IMAGE_BATCH)
    ]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def text_figures(found: Embeds, expected: Embeds, triplets: tuple[Embeds, Embeds] | None = None) -> dict[str, float]:
    """Compare embeddings of texts.

    Args:
        found: float32 (N, D) of held-out texts; expected alike, from the reference.
        triplets: found and expected (3 · T, D) of the published triplets, in their order.
    """
    figures = _pairwise(found, expected)
    if triplets is not None:
        kept = [_in_order(embeds.reshape(len(TRIPLETS), 3, -1)) for embeds in triplets]
        figures["triplets_kept"] = float((kept[0] & kept[1]).sum() / max(kept[1].sum(), 1))
    return figures


def image_figures(
    found: tuple[Embeds, ...], expected: tuple[Embeds, ...], queries: Embeds | None = None
) -> dict[str, float]:
    """Compare embeddings of images.

    Args:
        found: global (N, D) and, where there are such, patch embeddings (N, rows, columns, D) of held-out images;
            expected alike.
        queries: float32 (Q, D), unit norm, with which similarity maps are drawn; None takes the expected global
            embeddings.
    """
    figures = _pairwise(found[0], expected[0])
    if len(expected) == 1:
        return figures
    patches = _cosine(found[1].reshape(-1, found[1].shape[-1]), expected[1].reshape(-1, expected[1].shape[-1]))
    figures["mean_patch_cosine"] = float(patches.mean())
    figures["min_patch_cosine"] = float(patches.min())
    directions = expected[0] if queries is None else queries
    maps = [np.einsum("nrcd,qd->nqrc", patch, directions) for patch in (found[1], expected[1])]
    flat = [each.reshape(*each.shape[:2], -1) - each.mean(axis=(2, 3))[..., None] for each in maps]
    norms = np.linalg.norm(flat[0], axis=-1) * np.linalg.norm(flat[1], axis=-1)
    figures["map_correlation"] = float(np.mean((flat[0] * flat[1]).sum(-1) / np.maximum(norms, 1e-12)))
    return figures


def missed_gates(figures: Mapping[str, float], gates: Mapping[str, float]) -> list[str]:
    """Lines for the figures below their gate; NaN is below every gate."""
    return [
        f"{name} is {figures[name]:.5f}, at least {bound:g} is required"
        for name, bound in gates.items()
        if name in figures and not figures[name] >= bound
    ]


def median_milliseconds(run: Callable[[], object]) -> float:
    """Median time of one call, in milliseconds, after two calls that do not count."""
    seconds = []
    for index in range(_TIMED_RUNS + 2):
        started = time.perf_counter()
        run()
        if index >= 2:
            seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def text_milliseconds(session: Session, vocab_size: int, longest: int) -> float:
    """Median time of a batch of 8 × 64 tokens."""
    rows, length = _TIMED_TEXTS
    ids = np.random.default_rng(0).integers(5, vocab_size, (rows, min(length, longest)))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return median_milliseconds(lambda: session.run(["text_embeds"], feed))


def image_milliseconds(session: Session, pixels: NDArray[np.uint8]) -> float:
    """Median time of a batch of 4 images."""
    feed = {"pixel_values": pixels[:_IMAGE_BATCH]}
    return median_milliseconds(lambda: session.run(["image_embeds"], feed))


def _pairwise(found: Embeds, expected: Embeds) -> dict[str, float]:
    cosines = _cosine(found, expected)
    similarities = [_similarities(embeds) for embeds in (found, expected)]
    above = np.triu_indices(len(found), 1)
    pairs = [each[above] for each in similarities]
    for each in similarities:
        np.fill_diagonal(each, -np.inf)
    return {
        "mean_cosine": float(cosines.mean()),
        "p1_cosine": float(np.percentile(cosines, 1)),
        "min_cosine": float(cosines.min()),
        "max_similarity_change": float(np.abs(pairs[0] - pairs[1]).max()),
        "spearman": float(np.corrcoef(_ranks(pairs[0]), _ranks(pairs[1]))[0, 1]),
        "neighbour_agreement": float(np.mean(similarities[0].argmax(axis=1) == similarities[1].argmax(axis=1))),
    }


def _cosine(found: Embeds, expected: Embeds) -> NDArray[np.float64]:
    left, right = found.astype(np.float64), expected.astype(np.float64)
    cosines: NDArray[np.float64] = (left * right).sum(-1)
    cosines /= np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    return cosines


def _similarities(embeds: Embeds) -> NDArray[np.float64]:
    wide = embeds.astype(np.float64)
    similarities: NDArray[np.float64] = wide @ wide.T
    return similarities


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def _in_order(triplets: Embeds) -> NDArray[np.bool_]:
    """Whether the synonym is nearer to the reference than the contradiction is; (T, 3, D) → (T,)."""
    reference, synonym, contradiction = triplets[:, 0], triplets[:, 1], triplets[:, 2]
    nearer: NDArray[np.bool_] = (reference * synonym).sum(-1) > (reference * contradiction).sum(-1)
    return nearer
