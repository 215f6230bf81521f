"""What the joint models learn alike: optimization, cases to learn from, and which captions fit them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from export.samples import chest_phantom
from tests.trained.cases import SIDE, Case, make_case, patch_areas
from tests.trained.wordings import ABSENT, CLASSES

__all__ = ["STATED", "anatomies", "compatible", "optimizer", "patch_shares", "shown", "take_step", "training_cases"]

_ANATOMIES = 400
_WARM_UP = 10
_WEIGHT_DECAY = 0.05
# Which captions of `CLASSES` say what is there, rather than what is not.
STATED = torch.tensor([finding not in ABSENT for finding, _ in CLASSES])


def optimizer(
    parameters: Sequence[torch.nn.Parameter], rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, decaying matrices only; a short warm-up, then a cosine."""
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]
    chosen = torch.optim.AdamW(groups, lr=rate)

    def share(step: int) -> float:
        return min((step + 1) / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))

    return chosen, torch.optim.lr_scheduler.LambdaLR(chosen, share)


def take_step(
    found: dict[str, torch.Tensor], chosen: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
) -> None:
    """One step down the sum of the losses."""
    chosen.zero_grad(set_to_none=True)
    torch.stack([*found.values()]).sum().backward()
    torch.nn.utils.clip_grad_norm_([each for group in chosen.param_groups for each in group["params"]], 1.0)
    chosen.step()
    schedule.step()


def shown(stage: str, step: int, found: dict[str, torch.Tensor]) -> str:
    """A line of progress."""
    each = ", ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in found.items())
    return f"{stage}, step {step + 1}: {each}; {time.process_time():.0f} s of processor time"


def anatomies() -> list[NDArray[np.uint8]]:
    """What findings are drawn into: uint8 (144, 144) each."""
    return [chest_phantom(SIDE, SIDE, seed) for seed in range(_ANATOMIES)]


def training_cases(
    rng: np.random.Generator, drawn_into: Sequence[NDArray[np.uint8]], step: int, batch: int
) -> list[Case]:
    """The cases of one step."""
    chosen = rng.integers(0, len(drawn_into), batch)
    return [make_case(rng, drawn_into[anatomy], step * batch + place) for place, anatomy in enumerate(chosen)]


def compatible(cases: Sequence[Case]) -> torch.Tensor:
    """Which case may have a caption of which class: bool (cases, captions)."""
    return torch.tensor([[_may_have(case, *each) for each in CLASSES] for case in cases])


def _may_have(case: Case, finding: str | None, place: str | None) -> bool:
    if finding in ABSENT:
        return case.finding != ABSENT[finding]
    return finding in (None, case.finding) and place in (None, case.location or None)


def patch_shares(cases: Sequence[Case], grid: int) -> torch.Tensor:
    """How the patches share the region's area: (cases, patches); rows sum to 1, or to 0 without a finding."""
    areas = patch_areas(cases, grid).reshape(len(cases), -1)
    return torch.from_numpy(areas / np.maximum(areas.sum(1, keepdims=True), 1))
