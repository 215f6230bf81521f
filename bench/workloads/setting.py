"""What cases are made of: a bundle, its contestants, and how much is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.measuring import Entry
from bench.workloads.inputs import write_jpegs
from bench.workloads.operations import image_operations, token_operations
from export.samples import chest_phantom
from runtime.bundle import Bundle
from runtime.text import Tokenizer

__all__ = ["QUICK", "WHOLE", "Setting", "Size"]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        texts: of the archive.
        batch: texts that are computed at once.
        shapes: batch and tokens.
        files: JPEG files.
        pixels: batches of prepared images.
        corpus: numbers of texts, for how rates grow with them.
        starts: cold starts of each.
        requests: of the long run that memory is watched in, and images there.
        images: see `requests`.
    """

    texts: int
    batch: int
    shapes: tuple[tuple[int, int], ...]
    files: int
    pixels: tuple[int, ...]
    corpus: tuple[int, ...]
    starts: int
    requests: int
    images: int


QUICK = Size(
    texts=1024,
    batch=32,
    shapes=((1, 64), (1, 128), (8, 16), (8, 64)),
    files=4,
    pixels=(1, 4),
    corpus=(1, 32, 256),
    starts=5,
    requests=100,
    images=16,
)
WHOLE = Size(
    texts=1024,
    batch=32,
    shapes=tuple((batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 128, 512)),
    files=24,
    pixels=(1, 4, 16),
    corpus=(1, 4, 16, 64, 256, 1024, 4096),
    starts=9,
    requests=10_000,
    images=2_000,
)


@dataclass(frozen=True)
class Setting:
    """What cases are made of.

    Attributes:
        bundle: the opened bundle.
        entries: contestants.
        size: how much.
        threads: of each contestant.
        seed: of what is drawn at random.
        folder: for files that are made.
        texts: the user's; empty takes synthetic reports.
        source: where the texts come from.
    """

    bundle: Bundle
    entries: Sequence[Entry]
    size: Size
    threads: int
    seed: int
    folder: Path
    texts: tuple[str, ...] = ()
    source: str = "synthetic reports"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the bundle."""
        return Tokenizer(self.bundle.path("text"), self.bundle.text_part().tokenization)

    @cached_property
    def token(self) -> float:
        """Operations for a token."""
        return token_operations(self.bundle)

    @cached_property
    def image(self) -> float:
        """Operations for an image; 0 where they are not known."""
        return image_operations(self.bundle)

    def write_pixels(self, count: int) -> str:
        """A file of phantoms in the shape of prepared images."""
        shape = self.bundle.image_part().preprocessing.shape
        file = self.folder / f"phantoms-{count}-{self.seed}.npy"
        if not file.exists():
            seeds = range(self.seed, self.seed + count)
            np.save(file, np.stack([_phantom(shape, seed) for seed in seeds]))
        return str(file)

    @cached_property
    def files(self) -> list[str]:
        """Paths of JPEG files."""
        return write_jpegs(self.folder, self.size.files, self.seed)

    @property
    def own(self) -> frozenset[str]:
        """Names of this engine's contestants."""
        return frozenset(entry.name for entry in self.entries if entry.opener == "engine")

    @property
    def own_fp32(self) -> str:
        """This engine in fp32, which is the reference's equal and faster to compare with; "" where it is not there."""
        found = (
            entry.name for entry in self.entries if entry.opener == "engine" and entry.contestant.precision == "fp32"
        )
        return next(found, "")


def _phantom(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """uint8 (H, W), or (3, H, W) of channels that differ, so that their order matters."""
    *channels, height, width = shape
    drawn = [chest_phantom(height, width, seed + 1000 * channel) for channel in range(channels[0] if channels else 1)]
    return np.stack(drawn).reshape(shape)
