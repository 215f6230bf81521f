"""What several micro-benchmarks read: a tokenizer of the published kind, texts, and files of a radiograph's size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.workloads.corpus import report_texts
from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG, random_vocabulary
from export.checkpoints.tokenizer import write_tokenizer
from runtime.bundle.parts import REFUSED, STRIP_PUNCTUATION, Tokenization
from runtime.text import Tokenizer

# A radiograph's height and width.
SHAPE = (2500, 2048)
_RULES = Tokenization("wordpiece", 512, REFUSED, STRIP_PUNCTUATION, {}, None)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text folder without its graphs; the vocabulary is our own, as large as CXR-BERT's."""
    checkpoint: Path = tmp_path_factory.mktemp("checkpoint")
    folder: Path = tmp_path_factory.mktemp("text")
    vocabulary = random_vocabulary(CXR_BERT_CONFIG["vocab_size"])
    (checkpoint / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), encoding="utf-8")
    write_tokenizer(checkpoint, dict(CXR_BERT_CONFIG), folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    """The runtime's."""
    return Tokenizer(tokenizer_folder, _RULES)


@pytest.fixture(scope="session")
def texts(tokenizer: Tokenizer) -> list[str]:
    """256 made-up reports, as long as real ones."""
    return report_texts(256, 0, tokenizer)


@pytest.fixture(scope="session")
def tokens(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Their token ids."""
    return tokenizer.encode(texts)


@pytest.fixture(scope="session")
def film() -> NDArray[np.uint16]:
    """12-bit values, smooth with some noise, that do not reach either end of the range."""
    rng = np.random.default_rng(0)
    rows, columns = (np.linspace(-1, 1, side) for side in SHAPE)
    smooth = 1800 * np.exp(-((rows[:, None] ** 2 + columns**2) * 1.5)) + 700
    return (smooth + rng.normal(0, 30, SHAPE)).clip(40, 4000).astype(np.uint16)
