"""How well a model understands the cases, or what is said of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.image.resizing import seen_square
from runtime.tasks.joint import average_prompts, map_to_image, patch_similarity
from tests.runtime.parts import grey_rule
from tests.trained.cases import CROP, SIDE, Case, patch_areas
from tests.trained.wordings import FINDINGS, LOCATIONS, finding_prompts, location_prompts, make_impression

__all__ = [
    "CHANCE",
    "TEXT_CHANCE",
    "figures",
    "grounding_hits",
    "pointing_hits",
    "retrieval_accuracy",
    "text_figures",
    "zero_shot_accuracy",
]

# What `figures` gives if images and texts have nothing to do with each other, at most.
CHANCE = {"finding": 0.2, "location": 0.25, "retrieval": 0.2, "grounding": 0.25, "pointing": 0.25}
# Of `text_figures` alike.
TEXT_CHANCE = {"finding": 0.2, "location": 0.25, "paraphrase": 0.1, "impression": 0.22}


def figures(
    cases: Sequence[Case],
    encode_texts: Callable[[list[str]], NDArray[np.float32]],
    image_embeds: NDArray[np.float32],
    patch_embeds: NDArray[np.float32],
) -> dict[str, float]:
    """All figures below, each a share of cases in [0, 1].

    Args:
        cases: N cases.
        encode_texts: M texts → float32 (M, D), not normalized.
        image_embeds: float32 (N, D), unit norm.
        patch_embeds: float32 (N, rows, columns, D), unit norm.

    Returns:
        finding: zero-shot, of four and none (chance 0.2); location: zero-shot, of four (0.25); retrieval: of 17 classes
        (0.05 or 0.2); grounding and pointing, with prompts that name no place (0.25 and about 0.2).
    """
    by_finding = {name: average_prompts(encode_texts(prompts)) for name, prompts in finding_prompts().items()}
    by_location = {name: average_prompts(encode_texts(prompts)) for name, prompts in location_prompts().items()}
    captions = _unit(encode_texts([case.caption for case in cases]))
    present = [index for index, case in enumerate(cases) if case.location]
    shown = [cases[index] for index in present]
    embeds = [by_finding[case.finding] for case in shown]
    similarities = [patches @ embed for patches, embed in zip(patch_embeds[present], embeds, strict=True)]
    maps = [
        map_to_image(patch_similarity(patches, embed), (SIDE, SIDE), seen_square(grey_rule(SIDE, CROP), (SIDE, SIDE)))
        for patches, embed in zip(patch_embeds[present], embeds, strict=True)
    ]
    return {
        "finding": zero_shot_accuracy(image_embeds, [case.finding for case in cases], by_finding),
        "location": zero_shot_accuracy(image_embeds[present], [case.location for case in shown], by_location),
        "retrieval": retrieval_accuracy(image_embeds, captions, cases),
        "grounding": grounding_hits(maps, shown),
        "pointing": pointing_hits(similarities, shown),
    }


def text_figures(cases: Sequence[Case], encode_texts: Callable[[list[str]], NDArray[np.float32]]) -> dict[str, float]:
    """What embeddings of the cases' captions tell of these, for models of texts alone; all in [0, 1].

    Args:
        cases: N cases.
        encode_texts: M texts → float32 (M, D), not normalized.

    Returns:
        finding and location: as in `figures`, by the prompt nearest to the caption (chance 0.2 and 0.25); paraphrase:
        share of captions whose most similar other wording states the same finding and location (0.08); impression:
        mean reciprocal rank of the right impression among those of all findings and locations (0.21).
    """
    by_finding = {name: average_prompts(encode_texts(prompts)) for name, prompts in finding_prompts().items()}
    by_location = {name: average_prompts(encode_texts(prompts)) for name, prompts in location_prompts().items()}
    texts = np.array([case.caption for case in cases])
    captions = _unit(encode_texts(texts.tolist()))
    present = [index for index, case in enumerate(cases) if case.location]
    shown, stated = [cases[index] for index in present], captions[present]
    rng = np.random.default_rng(0)
    classes = list(itertools.product(FINDINGS, LOCATIONS))
    impressions = _unit(encode_texts([make_impression(rng, *each, held_out=True) for each in classes]))
    found = stated @ impressions.T
    right = [classes.index((case.finding, case.location)) for case in shown]
    ranks = 1 + (found > found[np.arange(len(found)), right][:, None]).sum(1)
    others = np.where(texts[:, None] == texts, -np.inf, captions @ captions.T).argmax(1)
    labels = [(case.finding, case.location) for case in cases]
    return {
        "finding": zero_shot_accuracy(captions, [case.finding for case in cases], by_finding),
        "location": zero_shot_accuracy(stated, [case.location for case in shown], by_location),
        "paraphrase": float(np.mean([labels[other] == label for other, label in zip(others, labels, strict=True)])),
        "impression": float(np.mean(1 / ranks)),
    }


def _unit(embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = embeds / np.linalg.norm(embeds, axis=1, keepdims=True)
    return scaled


def zero_shot_accuracy(
    image_embeds: NDArray[np.float32], truth: Sequence[str], class_embeds: Mapping[str, NDArray[np.float32]]
) -> float:
    """Share of images whose most similar class is the true one.

    Args:
        image_embeds: float32 (N, D), unit norm.
        truth: N class names.
        class_embeds: class name → float32 (D,), unit norm.
    """
    names = list(class_embeds)
    found = (image_embeds @ np.stack(list(class_embeds.values())).T).argmax(1)
    return float(np.mean([names[index] == true for index, true in zip(found, truth, strict=True)]))


def retrieval_accuracy(
    image_embeds: NDArray[np.float32], text_embeds: NDArray[np.float32], cases: Sequence[Case]
) -> float:
    """Share of images whose most similar caption, of those of all cases, states the right finding and location."""
    labels = [(case.finding, case.location) for case in cases]
    found = (image_embeds @ text_embeds.T).argmax(1)
    return float(np.mean([labels[index] == label for index, label in zip(found, labels, strict=True)]))


def grounding_hits(maps: Sequence[NDArray[np.float32]], cases: Sequence[Case]) -> float:
    """Share of cases whose similarity map is higher on average in the finding's zone than in any other.

    Args:
        maps: float32 (144, 144) per case, NaN where the model does not see; see `Engine.similarity_map`.
        cases: with findings.
    """
    halves = (slice(None, SIDE // 2), slice(SIDE // 2, None))
    zones = dict(zip(LOCATIONS, [(rows, columns) for rows in halves for columns in halves], strict=True))
    hits = [
        max(zones, key=lambda name: float(np.nanmean(values[zones[name]]))) == case.location
        for values, case in zip(maps, cases, strict=True)
    ]
    return float(np.mean(hits))


def pointing_hits(similarities: Sequence[NDArray[np.float32]], cases: Sequence[Case]) -> float:
    """Share of cases whose most similar patch touches the finding.

    Args:
        similarities: float32 (rows, columns) per case, not smoothed.
        cases: with findings.
    """
    touched = patch_areas(cases, similarities[0].shape[0]) > 0
    return float(np.mean([plane.flat[np.argmax(each)] for plane, each in zip(touched, similarities, strict=True)]))
