"""How far zero-shot classification by a lower precision is as good as the reference's, on labelled images.

One tower at a time: images embedded by a lowered graph meet the prompts of the reference, and prompts embedded by a
lowered graph its images, so that the figures are those of one artifact. They are

* auroc: of the reference, the mean over the labels that have one (macro average);
* auroc_change: that of the graph minus that of the reference; below 0 is worse, NaN where it gives no embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from export.proof.fidelity import embed_images
from export.reference import AnyText, ImageReference
from export.samples.zero_shot import ZeroShotData
from runtime.engines import Session
from runtime.process.wording import counted
from runtime.tasks.evaluation import evaluate
from runtime.tasks.zero_shot import merge_prompts, rule_of
from runtime.text import pad_batch, plan_batches

__all__ = ["ZeroShot", "zero_shot_by_graphs", "zero_shot_by_pytorch"]

_TOKEN_BUDGET = 1024
_IMAGE_BATCH = 4
_SMALLEST_NORM = 1e-12

Embeds = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """Measures graphs by the labelled images and prompts.

    Attributes:
        data: what is classified, and the truth.
        image_embeds: float32 (images, D), unit norm, by the reference.
        projections: float32 (prompts, D) of all prompts, not normalized, by the reference.
    """

    data: ZeroShotData
    image_embeds: Embeds
    projections: Embeds

    @cached_property
    def auroc(self) -> float:
        """The reference's, the mean over the labels that have one."""
        return self._auroc(self.image_embeds, self.projections)

    def in_words(self) -> str:
        """What is measured by, and the reference's figure."""
        data = self.data
        what = f"{counted(len(data.pixels), 'labelled image')}, {counted(len(data.labels), 'label')}"
        return f"Zero-shot classification of {what}: the reference's mean AUROC is {self.auroc:.4f}."

    def text_figures(self, session: Session) -> dict[str, float]:
        """Figures of a text graph, opened: its prompts and the reference's images."""
        return self._figures(self.image_embeds, _embed_prompts(session, self.data))

    def image_figures(self, session: Session) -> dict[str, float]:
        """Figures of an image graph, opened: its images and the reference's prompts."""
        return self._figures(embed_images(session, self.data.pixels, ("image_embeds",))[0], self.projections)

    def _figures(self, image_embeds: Embeds, projections: Embeds) -> dict[str, float]:
        return {"auroc": self.auroc, "auroc_change": self._auroc(image_embeds, projections) - self.auroc}

    def _auroc(self, image_embeds: Embeds, projections: Embeds) -> float:
        norms = np.linalg.norm(image_embeds, axis=1, keepdims=True)
        if not (np.isfinite(projections).all() and np.isfinite(norms).all() and (norms > _SMALLEST_NORM).all()):
            return math.nan
        data, joint = self.data, self.data.joint
        # As `classify` does where nothing else is asked for.
        how = rule_of(joint.score), joint.score, joint.logit_scale, joint.logit_bias
        classifier = merge_prompts(projections, data.prompts, *how)
        if not np.linalg.norm(classifier.prompt_embeds, axis=-1).all():
            return math.nan
        judged = [classifier.labels.index(label) for label in data.labels]
        found = evaluate(data.labels, data.truth, classifier.probabilities(image_embeds / norms)[:, judged])
        return math.nan if found.mean_auroc is None else found.mean_auroc


def zero_shot_by_pytorch(
    data: ZeroShotData,
    text: AnyText,
    image: ImageReference,
    progress: Callable[[float], None] = lambda share: None,
) -> ZeroShot:
    """Embed the images and the prompts with upstream's models, for an export.

    Args:
        data: labelled images and prompts.
        text: upstream's text model.
        image: upstream's image model.
        progress: takes the share of the images done, 0 to 1.
    """
    projections = []
    for row in data.rows:
        ids = torch.tensor([row])
        projections.append(text.embed(ids, torch.ones_like(ids))[0].numpy())
    embeds = []
    for start in range(0, len(data.pixels), _IMAGE_BATCH):
        embeds.append(image.embed(data.pixels[start : start + _IMAGE_BATCH])[0])
        progress(min(1.0, (start + _IMAGE_BATCH) / len(data.pixels)))
    return ZeroShot(data, np.concatenate(embeds), np.stack(projections))


def zero_shot_by_graphs(data: ZeroShotData, text: Session, image: Session) -> ZeroShot:
    """Embed the images and the prompts with a bundle's fp32 graphs, opened.

    Args:
        data: labelled images and prompts.
        text: the graph that takes a text a row, asked by today's names.
        image: the image graph.
    """
    embeds = embed_images(image, data.pixels, ("image_embeds",))[0]
    return ZeroShot(data, embeds, _embed_prompts(text, data))


def _embed_prompts(session: Session, data: ZeroShotData) -> Embeds:
    """Float32 (N, D), not normalized, in the order given."""
    found: dict[int, Embeds] = {}
    rows = data.rows
    for batch in plan_batches([len(row) for row in rows], _TOKEN_BUDGET):
        input_ids, attention_mask = pad_batch([rows[index] for index in batch], data.pad_token_id)
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        (embeds,) = session.run(["unnormalized_embeds"], feed)
        found |= dict(zip(map(int, batch), embeds, strict=True))
    return np.stack([found[index] for index in range(len(rows))])
