"""Who is measured, and what every contestant computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.errors import PeerError
from bench.measuring import Entry
from bench.peers import PEERS
from bench.peers.contract import TOP, in_batches, sorted_batches
from bench.record.gates import judge
from bench.workloads.contestants import REFERENCE, choose, engines, peers
from bench.workloads.corpus import masked_texts, report_texts
from runtime.bundle import open_bundle
from runtime.engines import PROVIDERS
from runtime.text import Tokenizer
from tests.conftest import System
from tests.runtime.parts import tokenization
from tests.runtime.sessions import watch_runs

SYSTEMS = ("texts", "masks", "images", "joint")
OPENVINO = pytest.mark.skipif(PROVIDERS["openvino"].missing() is not None, reason="OpenVINO is not installed")


def spec(tiny: System, entry: Entry) -> dict[str, object]:
    return {
        "bundle": str(tiny.bundle),
        "checkpoint": str(tiny.checkpoint),
        "threads": 1,
        "precision": entry.contestant.precision,
        **entry.told,
    }


def entries(tiny: System) -> list[Entry]:
    return [*peers(), *engines(open_bundle(tiny.bundle), SYSTEMS)]


def test_the_table(tiny: System) -> None:
    found = entries(tiny)
    assert found[0] is REFERENCE
    assert len({entry.name for entry in found}) == len(found)
    for entry in found:
        if not entry.foreign:
            assert entry.opener in PEERS
            assert set(entry.systems) - {"files"} <= set(PEERS[entry.opener])
        assert entry.contestant.kind in ("reference", "peer", "engine", "option")
        assert (entry.contestant.kind in ("engine", "option")) == bool(entry.contestant.provider)


def test_every_engine_and_precision_of_the_bundle_takes_part(tiny: System) -> None:
    names = {entry.name for entry in engines(open_bundle(tiny.bundle), SYSTEMS)}
    assert {"engine-cpu-fp32", "every-token-cpu-fp32"} <= names
    assert not {name for name in names if "cuda" in name or "int8" in name}, "neither is there"


def test_an_unknown_peer_lists_the_known_ones(tiny: System) -> None:
    with pytest.raises(PeerError, match=r"no peer 'abacus', 'mill'; there are: .*engine-cpu-fp32.*torch-bf16"):
        choose(entries(tiny), ["abacus", "torch-bf16", "mill"], full=False)


def test_choosing(tiny: System) -> None:
    found = entries(tiny)
    assert {entry.name for entry in choose(found, ["torch-bf16"], full=False)} == {"reference", "torch-bf16"}
    assert "torch-compile-bf16" in {entry.name for entry in choose(found, ["torch-compile-bf16"], full=False)}
    bound = {entry.name: entry for entry in choose(found, [], full=False)}
    assert bound["torch-compile"].unavailable().endswith("with --full, or with --peers torch-compile")
    assert bound["torch-compile"].seldom
    assert not bound["torch-bf16"].left_out
    assert not any(entry.left_out or entry.seldom for entry in choose(found, [], full=True))
    assert not any(entry.left_out for entry in choose(found, ["torch-compile"], full=False))
    ours = {entry.name for entry in choose(found, ["engine-cpu-fp32"], full=False)}
    assert ours == {"reference", "engine-cpu-fp32", "every-token-cpu-fp32"}, "what words are compared with comes along"
    assert ours <= {entry.name for entry in choose(found, ["engine"], full=False)}


@OPENVINO
@pytest.mark.slow
def test_every_text_contestant_gives_the_references_embeddings(tiny: System) -> None:
    """In the order given, whatever order it computes in. torch.compile takes a minute and is left to real runs."""
    tokenizer = Tokenizer(tiny.bundle / "text", tokenization())
    texts = ["No pleural effusion!", *report_texts(5, 0, tokenizer), "Clear.", "a " * 60]
    expected = None
    for entry in entries(tiny):
        usable = "texts" in entry.systems and not entry.foreign and not entry.unavailable()
        if not usable or entry.contestant.precision == "int8" or entry.name.startswith("torch-compile"):
            continue
        answer = PEERS[entry.opener]["texts"](spec(tiny, entry))({"texts": texts})()
        assert answer.shape == (len(texts), 128)
        if expected is None:
            expected = answer
        assert judge("texts", answer, expected, entry.contestant.precision).wrong == "", entry.name
        assert judge("texts", answer[::-1], expected, entry.contestant.precision).wrong, "a negative control"


@pytest.mark.slow
def test_every_mask_contestant_gives_transformers_words(tiny: System) -> None:
    tokenizer = Tokenizer(tiny.bundle / "text", tokenization())
    texts = masked_texts(64, 3, tokenizer)
    answers = {
        entry.name: PEERS[entry.opener]["masks"](spec(tiny, entry))({"texts": texts})()
        for entry in entries(tiny)
        if "masks" in entry.systems and not entry.foreign and not entry.unavailable()
        if entry.contestant.precision == "fp32"
    }
    assert {"reference", "engine-cpu-fp32", "every-token-cpu-fp32"} <= set(answers)
    for name, answer in answers.items():
        assert answer.shape == (3, 2 * TOP)
        assert judge("masks", answer, answers["reference"], "fp32").wrong == "", name


def test_the_decoder_runs_on_every_token(tiny: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the comparison would be one of equals."""
    asked = watch_runs(monkeypatch, lambda session, inputs: inputs["mask_positions"].size)
    texts = masked_texts(64, 8, Tokenizer(tiny.bundle / "text", tokenization()))
    for name in ("every-token-cpu-fp32", "engine-cpu-fp32"):
        entry = next(each for each in entries(tiny) if each.name == name)
        PEERS[entry.opener]["masks"](spec(tiny, entry))({"texts": texts})()
    # The whole decoder inside the session of `_EveryToken` sees all 512 places, this engine eight.
    assert set(asked) == {512, 8}


def test_prompts_are_embedded_anew_each_time(tiny: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from export.samples import chest_phantom
    from runtime.text import TextEncoder

    counted = []
    encode = TextEncoder.encode

    def counting(self, texts, **options):
        counted.append(len(texts))
        return encode(self, texts, **options)

    monkeypatch.setattr(TextEncoder, "encode", counting)
    Image.fromarray(chest_phantom(120, 130, 0)).save(tmp_path / "x.png")
    entry = next(each for each in entries(tiny) if each.name == "engine-cpu-fp32")
    prompts = [[f"label {index}", f"there is {index}", f"there is no {index}"] for index in range(6)]
    run = PEERS["engine"]["joint"](spec(tiny, entry))({"image": str(tmp_path / "x.png"), "prompts": prompts})
    counted.clear()
    first, second = run(), run()
    assert counted == [12, 12]
    assert np.allclose(first, second, atol=1e-6), "in the order of the labels, whatever the order of the passes"
    assert first.shape == (1, 6)


def test_batches_keep_the_order() -> None:
    lengths = [5, 1, 4, 2, 3]
    seen: list[list[int]] = []

    def embed(places: list[int]) -> np.ndarray:
        seen.append([lengths[place] for place in places])
        return np.array([[lengths[place]] for place in places])

    assert sorted_batches(lengths, embed, 2)[:, 0].tolist() == lengths
    assert seen == [[1, 2], [3, 4], [5]]
    assert in_batches(5, embed, 2)[:, 0].tolist() == lengths
