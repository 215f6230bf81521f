"""What models of Triton's Python backend can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from runtime.errors import InputError
from runtime.triton.image_tasks import EmbedImages, PrepareImages
from runtime.triton.items import Task
from runtime.triton.joint_tasks import ClassifyImages, CompareImages
from runtime.triton.settings import Settings
from runtime.triton.text_tasks import EmbedTexts, FillMasks, TokenizeTexts

__all__ = ["TASKS", "open_task"]

# Name in config.pbtxt → opens it.
TASKS: Mapping[str, Callable[[Settings], Task]] = MappingProxyType(
    {
        "embed_text": EmbedTexts,
        "fill_mask": FillMasks,
        "embed_image": EmbedImages,
        "similarity": CompareImages,
        "classify": ClassifyImages,
        "tokenize": TokenizeTexts,
        "prepare_image": PrepareImages,
    }
)


def open_task(settings: Settings) -> Task:
    """Open what a model's parameters name.

    Raises:
        InputError: there is no such task.
        BundleError, ProviderError, MissingExtraError: see `runtime.load`.
    """
    if settings.task not in TASKS:
        raise InputError(f"config.pbtxt: there is no task '{settings.task}'; there are: {', '.join(TASKS)}.")
    return TASKS[settings.task](settings)
