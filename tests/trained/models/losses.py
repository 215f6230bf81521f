"""What the joint model learns by: contrasts of captions and images, of captions, and of patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.trained.wordings import CLASSES, GROUPS, NO_FINDING, OPPOSITES

__all__ = ["contrastive", "cross_entropy", "emptiness", "opposition", "pointing", "same_meaning"]

_EXCLUSIVE = ("full", "finding", "place")


def contrastive(logits: torch.Tensor, compatible: torch.Tensor) -> torch.Tensor:
    """InfoNCE in both directions with any number of positives; (images, captions) twice. Images choose by group."""
    losses = [cross_entropy(logits.T, compatible.T)]
    losses += [cross_entropy(logits[:, GROUPS[name]], compatible[:, GROUPS[name]]) for name in _EXCLUSIVE]
    return torch.stack(losses).mean()


def opposition(logits: torch.Tensor, compatible: torch.Tensor) -> torch.Tensor:
    """Images choose between the captions that affirm a finding and those that deny it, for each finding."""
    return torch.stack([cross_entropy(logits[:, each], compatible[:, each]) for each in OPPOSITES]).mean()


def cross_entropy(logits: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy with evenly weighted positives; rows without any do not count."""
    counted = positive.any(1)
    weights = positive[counted].float()
    return F.cross_entropy(logits[counted], weights / weights.sum(1, keepdim=True))


def same_meaning(logits: torch.Tensor) -> torch.Tensor:
    """InfoNCE between the two captions of each class, as CXR-BERT learns from the sections of one report."""
    losses = []
    for group in GROUPS.values():
        size = (group.stop - group.start) // 2
        losses.append(F.cross_entropy(logits[group, group][:size, size:], torch.arange(size)))
    return torch.stack(losses).mean()


def pointing(logits: torch.Tensor, visible: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """For every caption of what an image shows somewhere: cross-entropy over the patches, the truth being where.

    Args:
        logits: (images, patches, captions).
        visible: bool (images, captions).
        shares: (images, patches), how the patches share the region's area; see `training`.
    """
    which_image, which_caption = visible.nonzero(as_tuple=True)
    return F.cross_entropy(logits[which_image, :, which_caption], shares[which_image])


def emptiness(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Patches that the finding does not touch choose, of the captions that leave the place open, those of none."""
    group = GROUPS["finding"]
    none = torch.tensor([finding == NO_FINDING for finding, _ in CLASSES[group]])
    empty = logits[shares == 0][:, group]
    return cross_entropy(empty, none.expand(len(empty), -1))
