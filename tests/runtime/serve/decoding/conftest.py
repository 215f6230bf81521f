"""What the tests of decoding share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.image.dicom_options import DicomOptions
from runtime.serve.decoding import decoder as decoder_module
from runtime.serve.decoding.decoder import Decoder
from runtime.serve.limits import Limits
from tests.runtime.dicoms import write_dicom
from tests.runtime.parts import grey_rule
from tests.runtime.serve.decoding.misbehaving import Misbehaving

RULE = grey_rule(64, 48)


def picture(height: int, width: int, seed: int = 5) -> Image.Image:
    """A grey image of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The file that Pillow makes of an image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    """A DICOM file, which is always decoded in a child."""
    values = np.random.default_rng(7).integers(0, 4096, (120, 90)).astype(np.uint16)
    return write_dicom(tmp_path / "film.dcm", values, "MONOCHROME1", bits=12).read_bytes()


@pytest.fixture
def open_decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Decoder]]:
    """Start decoders whose work misbehaves where files ask it to."""
    opened = []

    def start(processes: int = 2, limits: Limits | None = None, **options: object) -> Decoder:
        monkeypatch.setattr(decoder_module, "Work", Misbehaving)
        made = Decoder(RULE, DicomOptions(), limits or Limits(), processes=processes, **options)
        opened.append(made)
        made.start()
        return made

    yield start
    for each in opened:
        each.close()
