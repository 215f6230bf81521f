"""What one pass amounts to, counted independently, and what passes are made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.inputs import SENTENCE_TOKENS, cut, read_texts, sample, short_sentence, write_jpegs
from bench.measure import PeerError
from bench.peers import PEERS, RATE_OPERATIONS
from bench.report import print_times
from bench.turns import Contestant, Times
from bench.workloads import RATE, Engine, Workload, _image_operations, _token_operations, percent_of_rate, texts
from export.families import FAMILIES
from export.models import BioViLImageModel, CXRBertModel, bert_config
from export.random_checkpoint import CXR_BERT_CONFIG
from runtime.tokenization import Tokenizer
from tests.conftest import System, tiny_config


def operations(model: nn.Module, *given: torch.Tensor) -> float:
    """2 × the products of every convolution and every linear layer that a forward pass goes through."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        each = module.weight[0].numel()  # products for a value of the output
        total += 2 * each * output.numel()

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    model(*given)
    return total


def test_the_operations_of_an_image() -> None:
    with torch.device("meta"):
        model = BioViLImageModel(FAMILIES["biovil"].image).eval()
        assert operations(model, torch.empty(1, 3, 480, 480)) == _image_operations()
    assert 37e9 < _image_operations() < 39e9, "4.1 billion products at 224 × 224, 4.6 times as many pixels"


@pytest.mark.parametrize("config", [dict(CXR_BERT_CONFIG), tiny_config()], ids=["base", "tiny"])
def test_the_operations_of_a_token(config: dict) -> None:
    with torch.device("meta"):
        encoder = CXRBertModel(bert_config(config)).eval().bert.encoder
        counted = operations(encoder, torch.empty(1, 50, config["hidden_size"]))
    assert counted == 50 * _token_operations(config)


def test_equal_texts_padding_and_packing_are_no_work_done(tiny: System) -> None:
    engine = Engine(tiny.bundle, tiny.checkpoint, "cpu", "fp32")
    found = ["No effusion", "1 1 1", "No effusion", "No effusion.", "1 " * 600]
    workload = texts(engine, found, "x.txt", only_ours=True)
    tokenizer = Tokenizer(tiny.bundle / "text", 512)
    given = workload.contestants[0].spec["texts"]
    lengths = [len(row) for row in tokenizer.encode(given)]
    assert given[:4] == found[:4]
    assert 450 < lengths[4] <= 512, "cut, as by a user who must"
    assert workload.items == 5
    assert workload.operations == sum((lengths[0], lengths[1], lengths[4])) * _token_operations(tiny_config())


def test_every_contestant_is_known(tiny: System) -> None:
    for precision in ("auto", "fp32", "int8"):
        workload = texts(Engine(tiny.bundle, tiny.checkpoint, "cpu", precision), ["a"], "x", only_ours=False)
        assert {each.spec["peer"] for each in workload.contestants} < set(PEERS)
        assert workload.contestants[0].name.startswith("reference")
        assert all(each.check for each in workload.contestants[1:] if each.name != RATE), "all are compared with it"
        assert len({each.name for each in workload.contestants}) == len(workload.contestants)


def timed(name: str, *seconds: float) -> Times:
    return Times(name, np.empty(0), list(seconds))


def test_the_share_of_the_rate_is_taken_round_by_round() -> None:
    workload = Workload("t", (Contestant("a", {}), Contestant(RATE, {})), 1, "texts", operations=RATE_OPERATIONS / 4)
    # A quarter of the product's operations in the same time, in half of it, and in a quarter while all is slow.
    times = [timed("a", 1.0, 1.0, 2.0), timed(RATE, 1.0, 2.0, 8.0)]
    assert percent_of_rate(workload, times) == {"a": pytest.approx(0.5)}
    assert percent_of_rate(workload, times[:1]) == {}
    nothing = Workload("t", workload.contestants, 1, "texts")
    assert percent_of_rate(nothing, times) == {}


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    workload = Workload("two texts", (), 2, "texts", operations=1.0)
    times = [timed("slow", 2.0, 4.0, 8.0), timed("quick", 1.0, 1.0, 1.0), timed(RATE, 1.0, 1.0, 1.0)]
    print_times(workload, times, {"quick": 0.25}, 3)
    title, slow, quick, rate = capsys.readouterr().out.splitlines()
    assert title == "two texts; 3 threads, medians of 3 passes in turn"
    assert "4.0000 s (2.0000–8.0000)" in slow
    assert "0.5 texts/s" in slow
    assert "× the first" not in slow
    assert "4.00 × the first   25.0% of the int8 rate" in quick
    assert f"{RATE_OPERATIONS / 1e9:,.0f} GFLOP/s" in rate


def test_texts_are_read_by_line_and_column(tmp_path: Path) -> None:
    plain = tmp_path / "a.txt"
    plain.write_bytes("No effusion\r\n\n  \nwith\fa form feed\nÄ".encode())
    assert read_texts(plain, "text") == ["No effusion", "with\fa form feed", "Ä"]
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"note": "x"}) + "\n\n" + json.dumps({"note": " "}) + "\n")
    assert read_texts(lines, "note") == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", "holds no texts"),
        ("a.txt", b"fine\n\xff\xfe", "line 2: UnicodeDecodeError"),
        ("a.jsonl", b'{"text": "x"}\n{"note": "x"}', "line 2: KeyError: 'text'"),
        ("a.jsonl", b"{", "line 1: JSONDecodeError"),
        ("a.jsonl", b"[1]", "line 1: TypeError"),
        ("a.jsonl", b'{"text": 5}', "line 1: 'text' is a int, a string is expected"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PeerError, match=message):
        read_texts(tmp_path / name, "text")


def test_a_sample_keeps_the_order_and_follows_the_seed() -> None:
    items = [f"{index:03}" for index in range(100)]
    chosen = sample(items, 10, 1)
    assert len(set(chosen)) == 10
    assert chosen == sorted(chosen) == sample(items, 10, 1) != sample(items, 10, 2)
    assert sample(items, 100, 1) == items


def test_a_sentence_of_16_tokens_in_any_vocabulary(tiny: System) -> None:
    tokenizer = Tokenizer(tiny.bundle / "text", 512)
    assert len(tokenizer.encode([short_sentence(tokenizer)])[0]) == SENTENCE_TOKENS == 16
    assert cut("a b c", tokenizer) == "a b c"


def test_jpegs_differ_and_follow_the_seed(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    paths = [Path(name) for name in write_jpegs(tmp_path, 2, 0)]
    assert [Image.open(path).size for path in paths] == [(2500, 2048)] * 2
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert Path(write_jpegs(tmp_path / "again", 1, 0)[0]).read_bytes() == paths[0].read_bytes()
