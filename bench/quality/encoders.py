"""Who embeds the sentences: this engine, and PyTorch on the same weights beside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.quality.torch_text import torch_texts
from runtime.commands.arguments import add_bundle, add_engine_options, add_json, load_engine
from runtime.engine import Engine
from runtime.engines import default_threads

__all__ = [
    "PYTORCH",
    "Encode",
    "add_encoder_options",
    "engine_name",
    "identity",
    "load_text_engine",
    "text_encoders",
    "torch_threads",
]

Encode = Callable[[Sequence[str]], NDArray[np.float32]]

PYTORCH = "PyTorch fp32"


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Add the bundle, what chooses its engine, --checkpoint and --json."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument(
        "--checkpoint", type=Path, help="the checkpoint of the bundle's weights, folder or file: PyTorch side by side"
    )
    add_json(parser)


def load_text_engine(options: argparse.Namespace) -> Engine:
    """Load the bundle's text part with the options of `add_encoder_options`."""
    return load_engine(options, ["text"])


def text_encoders(engine: Engine, options: argparse.Namespace) -> Mapping[str, Encode]:
    """Name → function from texts to float32 (N, D), unit L2 norm; this engine first.

    Raises:
        InputError: --checkpoint holds other weights than the bundle was made of.
    """
    encoders: dict[str, Encode] = {engine_name(engine): engine.text.encode}
    if options.checkpoint is not None:
        encoders[PYTORCH] = torch_texts(engine, options.checkpoint, torch_threads(options))
    return encoders


def torch_threads(options: argparse.Namespace) -> int:
    """How many threads PyTorch gets: as many as this engine."""
    return int(options.threads or default_threads())


def identity(task: str, engine: Engine) -> dict[str, Any]:
    """What a report says of itself, by which reports are put side by side.

    Returns:
        The task's name, the system and its checkpoint, and whether its weights are random.
    """
    source = engine.manifest.source
    return {"task": task, "family": engine.manifest.family, "checkpoint": source.name, "weights": source.kind}


def engine_name(engine: Engine) -> str:
    """What to call this engine beside others."""
    return f"this engine ({engine.provider}, {', '.join(dict.fromkeys(engine.precision.values()))})"
