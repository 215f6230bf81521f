"""What other tools make of CXR-BERT in int8 gives the reference's embeddings, as nearly as int8 does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.errors import PeerError
from bench.peers import PEERS
from bench.peers.bert import foreign_making, making
from bench.peers.bert.making import made
from bench.record.gates import judge
from bench.workloads.bert_contestants import bert_peers
from tests.conftest import System

TEXTS = ["No pleural effusion.", "Pneumonia", "", "Small effusion!?", "There is no pneumothorax and no fracture. " * 9]
ENTRIES = {entry.name: entry for entry in bert_peers()}


@pytest.fixture(scope="module")
def told(tiny: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What all peers are told; what one makes, others take."""
    made_in = tmp_path_factory.mktemp("bert") / "made"
    places = {"bundle": str(tiny.bundle), "checkpoint": str(tiny.checkpoint), "made": str(made_in)}
    return {**places, "threads": 1, "python": sys.executable}


@pytest.fixture(scope="module")
def expected(told: dict[str, object]) -> np.ndarray:
    return PEERS["reference"]["texts"](told)({"texts": TEXTS})()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ENTRIES if "compile" not in name and not ENTRIES[name].foreign])
def test_the_references_embeddings_in_the_order_given(told: dict[str, object], expected: np.ndarray, name: str) -> None:
    """torch.compile takes a minute and is left to real runs."""
    entry = ENTRIES[name]
    if entry.unavailable():
        pytest.skip(entry.unavailable())
    found = PEERS[entry.opener]["texts"](told)({"texts": TEXTS})()
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() <= 1e-5
    assert judge("texts", found, expected, "int8").wrong == ""
    assert np.abs(found - expected).max() > 1e-5, "int8, not the same in fp32"
    # All embeddings of random weights are alike: those of other texts are still further away, by little in NNCF's int8.
    assert np.abs(found - expected).mean() < np.abs(found[::-1] - expected)[[0, 1, 3, 4]].mean()


def test_what_cannot_be_made_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = {
        "checkpoint": str(tmp_path / "empty"), "bundle": "", "made": str(tmp_path / "made"), "python": sys.executable,
    }  # fmt: skip
    with pytest.raises(PeerError, match=r"'bert' cannot be made of .*empty: (.|\n)*no file named model"):
        made(told, "bert-ctranslate2")
    assert not (tmp_path / "made" / "bert").exists()
    assert not (tmp_path / "made" / "bert-ctranslate2").exists()


def test_nobody_reads_the_bundles_graphs() -> None:
    """Or it would be nothing that a user has without this project."""
    assert not any(entry.contestant.our_graph for entry in bert_peers())
    assert {entry.contestant.precision for entry in bert_peers()} == {"int8"}


def test_what_takes_minutes_is_what_is_made() -> None:
    makes = [entry.makes for entry in bert_peers() if entry.makes]
    assert makes, "or there is nothing to leave out"
    assert set(makes) <= {*making.MAKERS, *foreign_making.MAKERS}
