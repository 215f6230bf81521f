"""What people do on the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def film(width: int = 240, height: int = 300, mode: str = "L", kind: str = "PNG", **options: Any) -> bytes:
    """An encoded picture whose upper left quarter is bright."""
    values = np.full((height, width), 60, np.uint8)
    values[: height // 2, : width // 2] = 200
    picture = Image.fromarray(values).convert(mode)
    if mode == "I;16":
        picture = Image.fromarray(values.astype(np.uint16) * 16)  # of 12 bit: dark where a browser shows it
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def transfer(page: Any, content: bytes, name: str, kind: str) -> Any:
    """A DataTransfer with a file, as a drop or a paste brings it."""
    return page.evaluate_handle(
        """([encoded, name, type]) => {
            const bytes = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, {type}));
            return transfer;
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )


def drop(page: Any, content: bytes, name: str = "film.png", kind: str = "image/png", on: str = "#drop") -> None:
    """Drag a file from outside over a place, and let it go."""
    carried = transfer(page, content, name, kind)
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(on, event, {"dataTransfer": carried})
    page.locator("#radiograph-status", has_text="Opened.").wait_for()


def choose(page: Any, content: bytes, name: str = "film.png", kind: str = "image/png") -> None:
    """Pick a file in the dialogue."""
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})


def find(page: Any, phrases: str) -> None:
    page.fill("#phrases-given", phrases)
    page.click("#phrases [type=submit]")
    page.locator("#phrases .result").wait_for()


def pixels(page: Any, selector: str) -> np.ndarray:
    """uint8 (H, W, 4) of a canvas."""
    url = page.evaluate("selector => document.querySelector(selector).toDataURL()", selector)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))
