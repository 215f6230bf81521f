"""What is measured: each command's contestants, and how its figures are reported.

The operations counted are those of the models as published, per real token or per image: padding, packing and what the
rewrites save are not work done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.inputs import SENTENCE_TOKENS, cut, short_sentence, write_jpegs
from bench.peers import RATE_OPERATIONS
from bench.turns import Contestant, Times, lowest_cosine
from runtime.tokenization import Tokenizer

__all__ = ["RATE", "Engine", "Workload", "image_files", "image_tensors", "latency", "percent_of_rate", "texts"]

RATE = "int8 matrix product 4096³"
# Smallest cosine between embeddings in int8 and in fp32 of random weights; a wrong model is near 0 or far below.
_AGREE_INT8 = 0.97
_AGREE_BF16 = 0.98
_AGREE_FP32 = 0.99999


@dataclass(frozen=True)
class Workload:
    """Contestants with what one pass of theirs amounts to.

    Attributes:
        title: for the report.
        contestants: the first is what others are compared with, where there are others PyTorch or the reference.
        items: texts or images in a pass, named by `unit`.
        operations: useful ones in a pass; 0 where a share of the attainable rate says nothing.
    """

    title: str
    contestants: tuple[Contestant, ...]
    items: int
    unit: str
    operations: float = 0.0


@dataclass(frozen=True)
class Engine:
    """What is measured of this engine, and the checkpoint with the same weights."""

    bundle: Path
    checkpoint: Path
    provider: str
    precision: str

    def spec(self, peer: str, **more: Any) -> dict[str, Any]:
        """What a worker is told."""
        return {
            "peer": peer,
            "bundle": str(self.bundle),
            "checkpoint": str(self.checkpoint),
            "provider": self.provider,
            "precision": self.precision,
            **more,
        }

    @property
    def config(self) -> dict[str, Any]:
        """The text model's config.json."""
        return dict(json.loads((self.bundle / "text" / "config.json").read_text(encoding="utf-8")))

    @property
    def agreement(self) -> float:
        """Smallest cosine with the reference."""
        return {"fp32": _AGREE_FP32, "bf16": _AGREE_BF16}.get(self.precision, _AGREE_INT8)


def texts(engine: Engine, found: Sequence[str], source: str, only_ours: bool) -> Workload:
    """Strings → embeddings; each text is cut to what the model reads.

    Args:
        engine: what is measured.
        found: texts.
        source: where they come from, for the title.
        only_ours: leave out the peers, and with them the comparison of the answers.
    """
    tokenizer = Tokenizer(engine.bundle / "text", engine.config["max_position_embeddings"])
    chosen = [cut(text, tokenizer) for text in found]
    tokens = sum(len(row) for row in {tuple(row) for row in tokenizer.encode(chosen)})
    given = {"texts": chosen}
    ours = Contestant(
        f"this engine ({engine.provider}, {engine.precision})",
        engine.spec("engine texts", **given),
        lowest_cosine(engine.agreement),
    )
    rate = Contestant(RATE, {"peer": "int8 rate"})
    reference = Contestant("reference: PyTorch fp32, file order, MLM head", engine.spec("reference texts", **given))
    plain = "fp32" if engine.precision == "auto" else engine.precision
    others = (
        Contestant(
            "PyTorch bf16, sorted, embedding only",
            engine.spec("torch bf16 texts", **given),
            lowest_cosine(_AGREE_BF16),
        ),
        Contestant(
            f"OpenVINO {plain}, sorted, batches of 32",
            engine.spec("openvino texts", **{**given, "precision": plain}),
            lowest_cosine(_AGREE_INT8),
        ),
    )
    contestants = (ours, rate) if only_ours else (reference, ours, *others, rate)
    return Workload(
        f"{len(chosen)} texts of {source}, {tokens} different tokens' worth, strings → embeddings",
        contestants,
        len(chosen),
        "texts",
        tokens * _token_operations(engine.config),
    )


def latency(engine: Engine) -> Workload:
    """One sentence of 16 tokens, warm, one at a time."""
    tokenizer = Tokenizer(engine.bundle / "text", engine.config["max_position_embeddings"])
    given = {"texts": [short_sentence(tokenizer)]}
    return Workload(
        f"one sentence of {SENTENCE_TOKENS} tokens",
        (
            Contestant("PyTorch fp32 eager", engine.spec("torch fp32 texts", **given), passes=10),
            Contestant(
                f"this engine ({engine.provider}, {engine.precision})",
                engine.spec("engine texts", **given),
                lowest_cosine(engine.agreement),
                passes=10,
            ),
        ),
        1,
        "texts",
    )


def image_tensors(engine: Engine, batch: int) -> Workload:
    """Prepared pixels → embeddings."""
    return Workload(
        f"image model, batch of {batch}, pixels → embeddings",
        (
            Contestant(
                f"this engine ({engine.provider}, {engine.precision})", engine.spec("engine pixels", batch=batch)
            ),
            Contestant(RATE, {"peer": "int8 rate"}),
        ),
        batch,
        "images",
        batch * _image_operations(),
    )


def image_files(engine: Engine, folder: Path, count: int, seed: int) -> Workload:
    """JPEG files of 2,500 × 2,048 pixels → embeddings; made from phantoms, as radiographs cannot ship."""
    paths = write_jpegs(folder, count, seed)
    agree = lowest_cosine(engine.agreement)
    name = f"{engine.provider}, {engine.precision}"
    return Workload(
        f"{count} JPEG files of 2,500 × 2,048 → embeddings",
        (
            Contestant("reference package, one by one", engine.spec("reference files", images=paths)),
            Contestant(f"this engine ({name})", engine.spec("engine files", images=paths), agree),
            Contestant(
                f"this engine ({name}, fast_decode)",
                engine.spec("engine files", images=paths, fast_decode=True),
                agree,
            ),
        ),
        count,
        "images",
    )


def percent_of_rate(workload: Workload, times: Sequence[Times]) -> dict[str, float]:
    """Useful operations per second of each contestant, as a share of the int8 product's, round by round.

    Returns:
        Name → median over the rounds of the share; empty where the product was not measured.
    """
    rate = next((each for each in times if each.name == RATE), None)
    if rate is None or not workload.operations:
        return {}
    shares = {}
    for each in times:
        if each is not rate:
            pairs = zip(each.seconds, rate.seconds, strict=True)
            shares[each.name] = float(
                np.median([workload.operations / mine / (RATE_OPERATIONS / its) for mine, its in pairs])
            )
    return shares


def _token_operations(config: Mapping[str, Any]) -> float:
    """Operations per token of BERT's layers: 2 × the weights that it is multiplied with.

    The products of attention, which grow with the length of the text, and the head are not counted.
    """
    hidden = config["hidden_size"]
    return 2.0 * config["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * config["intermediate_size"])


def _image_operations() -> float:
    """Operations of ResNet-50 at 480 × 480 on three channels with BioViL's projector: 2 × its products."""
    products = 240 * 240 * 64 * 3 * 49
    side, inputs = 120, 64
    for index, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            products += side * side * inputs * width
            if block == 0 and index > 0:
                side //= 2
            products += side * side * (9 * width * width + 4 * width * width)
            if block == 0:
                products += side * side * inputs * 4 * width
            inputs = 4 * width
    products += side * side * (2048 * 128 + 128 * 128)
    return 2.0 * products
