"""How far embeddings of lower precision are those of the reference, on held-out data.

Figures of texts and of images:

* mean_cosine, p1_cosine (the lowest percentile), min_cosine: of each embedding with the reference's;
* mean_centred_cosine, p1_centred_cosine: the same after the mean of the reference's embeddings is taken off both. Where
  all embeddings are alike, cosines are near 1 whatever happens to what tells them apart; these are not;
* max_similarity_change: largest change of the cosine of any two held-out items;
* spearman: rank correlation of all pairwise similarities;
* neighbour_agreement: share of items whose nearest neighbour among the others is the same. Among items that repeat each
  other that is a coin toss;
* tie_tolerance: by how much the reference's own similarities change (their 99th percentile) when it is computed in
  bf16, or on another engine where the processor has none: nearer than that are ties;
* neighbour_regret, p99_neighbour_regret: how much less alike the neighbour found is, by the reference's similarities:
  that of the true neighbour less that of the one found, in standard deviations of all similarities; among ties, none;
* neighbours_kept: share of items whose neighbour found is the true one, or ties with it;
* neighbour_recall_at_10: share of the ten nearest that are among the ten nearest still;
* pairs_mrr (texts): mean reciprocal rank of each text's other half, or of the text of another column, among all of
  them, by the reference; pairs_mrr_change, pairs_recall_at_10_change: by how much that and the share among the first
  ten change, relative to the reference's;
* triplets_kept (texts): share of the published triplets, of those that the reference has in order by more than a tie,
  that keep it;
* mean_patch_cosine, min_patch_cosine (images): of the patches; map_correlation: of similarity maps with queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.samples import TRIPLETS
from runtime.engines import Session
from runtime.text import pad_batch, plan_batches

__all__ = [
    "AT_MOST",
    "HALF_GATES",
    "IMAGE_OUTPUTS",
    "TIERS",
    "embed_images",
    "embed_texts",
    "image_feeds",
    "image_figures",
    "image_milliseconds",
    "median_milliseconds",
    "missed_gates",
    "other_images",
    "text_figures",
    "text_milliseconds",
    "tie_tolerance",
]

# Tier → figure → bound, for int8: the largest value of those in AT_MOST, the smallest of others.
#
# The bounds come of what retrieval loses. Noise with the covariance of MiniLM's embeddings was added to those of 1,000
# findings and their impressions from Open-I (571 different), 30 draws for each size of the noise:
#
#   centred cosine   regret   change of MRR (mean ± standard error)   of recall at 10   one draw's spread
#   0.9999           0.0001   +0.2 ± 0.1 %                            -0.1 ± 0.2 %      0.4 %
#   0.9987           0.0014   +0.4 ± 0.2 %                            -0.4 ± 0.3 %      1.1 %
#   0.9962           0.0045   -0.4 ± 0.3 %                            -1.5 ± 0.4 %      1.7 %
#   0.9923           0.0096   -1.6 ± 0.3 %                            -2.0 ± 0.4 %      1.8 %
#   0.975            0.037    -2.4 ± 0.6 %                            -5.1 ± 0.7 %      3.1 %
#   0.892            0.184    -13.8 ± 0.8 %                           -15.9 ± 0.9 %     4.6 %
#
# A damage of 1 % of MRR lies at a regret of about 0.006. The centred cosine guards what neighbours do not show, such as
# a shift of all embeddings, which moves them against the other tower's; its bounds are wider, for noise in directions
# in which the items do not differ is no damage (random ResNet-50: 0.95 at a regret of 0.003). MRR itself is no gate:
# one draw of noise that does none on average changes it by more than 1 % either way, since near-repeats change places.
TIERS: dict[str, Mapping[str, float]] = {
    "99": {"mean_centred_cosine": 0.95, "neighbour_regret": 0.006, "triplets_kept": 1.0},
    "99.9": {"mean_centred_cosine": 0.99, "neighbour_regret": 0.002, "triplets_kept": 1.0},
}
AT_MOST = frozenset({"neighbour_regret", "p99_neighbour_regret", "max_similarity_change"})
HALF_GATES: Mapping[str, float] = {"min_cosine": 0.9995, "triplets_kept": 1.0}

# Of image graphs; those that embed no patches have the first alone.
IMAGE_OUTPUTS = ("image_embeds", "patch_embeds")
_TOKEN_BUDGET = 1024
_IMAGE_BATCH = 4
_TIMED_RUNS = 9
_TIMED_TEXTS = (8, 64)
_FIRST = 10

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
    session: Session,
    pixels: NDArray[np.uint8],
    outputs: Sequence[str] = IMAGE_OUTPUTS,
    previous: NDArray[np.uint8] | None = None,
) -> tuple[Embeds, ...]:
    """Embeddings of uint8 pixels, see `Preprocessing.shape`: float32 (N, D) and, of patches, (N, rows, columns, D).

    `previous` are those of the previous images, for a graph of pairs.
    """
    feeds = image_feeds(pixels, previous)
    parts = [
        session.run(list(outputs), {name: each[start : start + _IMAGE_BATCH] for name, each in feeds.items()})
        for start in range(0, len(pixels), _IMAGE_BATCH)
    ]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def image_feeds(pixels: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None) -> dict[str, NDArray[np.uint8]]:
    """What a graph of images reads, or one of pairs of images."""
    return {"pixel_values": pixels} | ({} if previous is None else {"previous_pixel_values": previous})


def other_images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """For each image another one, to be its previous image: uint8 (N, …) → the same, moved by one."""
    return np.roll(pixels, 1, axis=0)


def text_figures(
    found: Embeds,
    expected: Embeds,
    triplets: tuple[Embeds, Embeds] | None = None,
    tolerance: float | None = None,
) -> dict[str, float]:
    """Compare embeddings of texts.

    Args:
        found: float32 (N, D) of held-out texts; expected alike, from the reference.
        triplets: found and expected (3 · T, D) of the published triplets, in their order.
        tolerance: see `tie_tolerance`.
    """
    figures = _pairwise(found, expected, tolerance)
    if triplets is not None:
        left, right = (_margins(embeds.reshape(len(TRIPLETS), 3, -1)) for embeds in triplets)
        told = right > (tolerance or 0.0)
        figures["triplets_kept"] = float((left > 0)[told].mean()) if told.any() else 1.0
    return figures


def image_figures(
    found: tuple[Embeds, ...],
    expected: tuple[Embeds, ...],
    queries: Embeds | None = None,
    tolerance: float | None = None,
) -> dict[str, float]:
    """Compare embeddings of images.

    Args:
        found: global (N, D) and, where there are such, patch embeddings (N, rows, columns, D) of held-out images;
            expected alike.
        queries: float32 (Q, D), unit norm, with which similarity maps are drawn; None takes the expected global
            embeddings.
        tolerance: see `tie_tolerance`.
    """
    figures = _pairwise(found[0], expected[0], tolerance)
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
    """Lines for the figures that miss their gate; NaN misses every gate."""
    missed = []
    for name, bound in gates.items():
        if name not in figures:
            continue
        value, at_most = figures[name], name in AT_MOST
        if not (value <= bound if at_most else value >= bound):
            missed.append(f"{name} is {value:.5f}, at {'most' if at_most else 'least'} {bound:g} is required")
    return missed


def tie_tolerance(found: Embeds, expected: Embeds) -> float:
    """By how much similarities of the reference itself change, at their 99th percentile.

    Args:
        found: float32 (N, D), the reference in bf16 or on another engine; expected alike.
    """
    above = np.triu_indices(len(found), 1)
    changes = [_similarities(embeds)[above] for embeds in (found, expected)]
    return float(np.percentile(np.abs(changes[0] - changes[1]), 99))


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


def image_milliseconds(session: Session, pixels: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None) -> float:
    """Median time of a batch of 4 images, or of 4 with previous ones."""
    feed = {name: each[:_IMAGE_BATCH] for name, each in image_feeds(pixels, previous).items()}
    return median_milliseconds(lambda: session.run(["image_embeds"], feed))


def _pairwise(found: Embeds, expected: Embeds, tolerance: float | None) -> dict[str, float]:
    cosines = _cosine(found, expected)
    centre = expected.astype(np.float64).mean(axis=0)
    centred = _cosine(found - centre, expected - centre)
    similarities = [_similarities(embeds) for embeds in (found, expected)]
    above = np.triu_indices(len(found), 1)
    pairs = [each[above] for each in similarities]
    for each in similarities:
        np.fill_diagonal(each, -np.inf)
    items, neighbours = np.arange(len(found)), [each.argmax(axis=1) for each in similarities]
    lost = similarities[1][items, neighbours[1]] - similarities[1][items, neighbours[0]]
    regret = np.where(lost > (tolerance or 0.0), lost, 0.0) / max(float(pairs[1].std()), 1e-12)
    ten = min(_FIRST, len(found) - 1)
    nearest = [np.argpartition(-each, ten - 1, axis=1)[:, :ten] for each in similarities]
    kept = [len(np.intersect1d(*both)) / ten for both in zip(*nearest, strict=True)]
    ties = (
        {}
        if tolerance is None
        else {
            "tie_tolerance": tolerance,
            "neighbours_kept": float(np.mean(lost <= tolerance)),
        }
    )
    return {
        "mean_cosine": float(cosines.mean()),
        "p1_cosine": float(np.percentile(cosines, 1)),
        "min_cosine": float(cosines.min()),
        "mean_centred_cosine": float(centred.mean()),
        "p1_centred_cosine": float(np.percentile(centred, 1)),
        "max_similarity_change": float(np.abs(pairs[0] - pairs[1]).max()),
        "spearman": float(np.corrcoef(_ranks(pairs[0]), _ranks(pairs[1]))[0, 1]),
        "neighbour_agreement": float(np.mean(neighbours[0] == neighbours[1])),
        "neighbour_regret": float(regret.mean()),
        "p99_neighbour_regret": float(np.percentile(regret, 99)),
        "neighbour_recall_at_10": float(np.mean(kept)),
        **ties,
    }


def _cosine(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
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


def _margins(triplets: Embeds) -> NDArray[np.float32]:
    """How much nearer the synonym is to the reference than the contradiction is; (T, 3, D) → (T,)."""
    reference, synonym, contradiction = triplets[:, 0], triplets[:, 1], triplets[:, 2]
    margins: NDArray[np.float32] = (reference * synonym).sum(-1) - (reference * contradiction).sum(-1)
    return margins
