"""What models are warmed up with: files of raw tensors, with invented contents."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.triton.config import WarmUp, WarmUpInput
from runtime.bundle.parts import TextPart

__all__ = ["Files", "film_warm_ups", "joint_warm_ups", "pixel_warm_ups", "text_warm_ups", "token_warm_ups"]

# Name in the model's `warmup` folder → contents.
Files = Mapping[str, bytes]

_SENTENCE = "Small left pleural effusion, unchanged since the previous examination."
_MASKED = "Small left pleural [MASK]."
_LENGTHS = (32, 128)


def bytes_tensor(*values: bytes) -> bytes:
    """A BYTES tensor: each element behind its length, four bytes in little-endian order."""
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def text_warm_ups(batch: int, masked: bool = False) -> tuple[tuple[WarmUp, ...], Files]:
    """A sentence, a report, and a batch of them."""
    sentence = _MASKED if masked else _SENTENCE
    texts = {"sentence": sentence, "report": " ".join([sentence] + [_SENTENCE] * 5)}
    files = {name: bytes_tensor(text.encode()) for name, text in texts.items()}

    def warm_up(name: str, file: str, size: int) -> WarmUp:
        return WarmUp(name, size, {"TEXT": WarmUpInput("TYPE_STRING", (1,), file)})

    return (
        warm_up("sentence", "sentence", 1),
        warm_up("report", "report", 1),
        warm_up("batch", "report", min(batch, 32)),
    ), files


def film_warm_ups(batch: int) -> tuple[tuple[WarmUp, ...], Files]:
    """A picture, and a batch of it."""

    def warm_up(name: str, size: int) -> WarmUp:
        return WarmUp(name, size, {"IMAGE": WarmUpInput("TYPE_STRING", (1,), "film")})

    sizes = {"film": 1, **({"films": min(batch, 8)} if batch > 1 else {})}
    return tuple(warm_up(name, size) for name, size in sizes.items()), {"film": bytes_tensor(_film())}


def joint_warm_ups(second: str, value: str) -> tuple[tuple[WarmUp, ...], Files]:
    """A picture and a text."""
    inputs = {
        "IMAGE": WarmUpInput("TYPE_STRING", (1,), "film"),
        second: WarmUpInput("TYPE_STRING", (1,), second.lower()),
    }
    return (WarmUp("film", 1, inputs),), {
        "film": bytes_tensor(_film()),
        second.lower(): bytes_tensor(value.encode()),
    }


def token_warm_ups(part: TextPart, names: tuple[str, ...], batch: int) -> tuple[tuple[WarmUp, ...], Files]:
    """Rows of tokens, alone and in batches. Random ones would lie beyond the vocabulary."""
    longest = part.tokenization.max_length
    lengths = sorted({*(length for length in _LENGTHS if length < longest), longest})
    files: dict[str, bytes] = {}
    warm_ups = []
    for length in lengths:
        for name in names:
            files[f"{name}_{length}"] = _tokens(length).tobytes()
        inputs = {name: WarmUpInput("TYPE_INT64", (length,), f"{name}_{length}") for name in names}
        warm_ups += [WarmUp(f"{length} tokens", 1, inputs)]
        if length < longest and batch > 1:
            warm_ups += [WarmUp(f"{length} tokens, a batch", min(batch, 8), inputs)]
    return tuple(warm_ups), files


def _tokens(length: int) -> NDArray[np.int64]:
    """Ones: an id that every vocabulary has, and a mask that hides nothing."""
    return np.ones(length, dtype="<i8")


def pixel_warm_ups(name: str, shape: tuple[int, ...], batch: int) -> tuple[tuple[WarmUp, ...], Files]:
    """Grey pixels, alone and in a batch."""
    inputs = {name: WarmUpInput("TYPE_UINT8", shape, "pixels")}
    sizes = {"image": 1, **({"images": min(batch, 8)} if batch > 1 else {})}
    files = {"pixels": np.full(shape, 128, dtype=np.uint8).tobytes()}
    return tuple(WarmUp(each, size, inputs) for each, size in sizes.items()), files


def _film() -> bytes:
    """A gradient as PNG, a little wider than high: no picture of anybody."""
    rows, columns = np.mgrid[0:512, 0:640]
    data = BytesIO()
    Image.fromarray(((rows + columns) // 5).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()
