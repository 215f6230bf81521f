"""What one pass amounts to, counted independently, and what passes are made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bench.errors import PeerError
from bench.peers.rates import RATE_OPERATIONS
from bench.record import MEASURED, Case, Rate, Row
from bench.record.statistics import share_of_rate
from bench.workloads.contestants import REFERENCE, engines, peers
from bench.workloads.corpus import masked_texts, report_texts, texts_of_length
from bench.workloads.inputs import cut, read_texts, sample, write_jpegs
from bench.workloads.operations import image_operations, resnet_operations, token_operations
from bench.workloads.table import QUICK, WHOLE, WORKLOADS, Setting, Size
from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG
from export.checkpoints.tokenizer import write_tokenizer
from export.families import FAMILIES
from export.reference import build_image_model, untrained_text
from runtime.bundle import open_bundle
from runtime.text import Tokenizer
from tests.conftest import System, tiny_config
from tests.runtime.parts import tokenization

SMALL = Size(
    texts=6,
    batch=2,
    shapes=((1, 16), (3, 20)),
    files=2,
    pixels=(1, 2),
    corpus=(1, 3, 6),
    starts=1,
    requests=10,
    images=2,
)


def setting(tiny: System, folder: Path, **changes: object) -> Setting:
    bundle = open_bundle(tiny.bundle)
    entries = [*peers(), *engines(bundle, ("texts", "masks", "images", "joint"))]
    return Setting(**{"bundle": bundle, "entries": entries, "size": SMALL, "threads": 3, "seed": 0, "folder": folder,
                      **changes})  # fmt: skip


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


def test_the_operations_of_an_image(tiny: System) -> None:
    with torch.device("meta"):
        model = build_image_model(FAMILIES["biovil"].image).eval()
        assert operations(model, torch.empty(1, 3, 480, 480)) == resnet_operations()
    assert 37e9 < resnet_operations() < 39e9, "4.1 billion products at 224 × 224, 4.6 times as many pixels"
    assert image_operations(open_bundle(tiny.bundle)) == 0.0, "another network"


@pytest.mark.parametrize("config", [dict(CXR_BERT_CONFIG), tiny_config()], ids=["base", "tiny"])
def test_the_operations_of_a_token(config: dict, tiny: System, tmp_path: Path) -> None:
    with torch.device("meta"):
        encoder = untrained_text(config).eval().bert.encoder
        counted = operations(encoder, torch.empty(1, 50, config["hidden_size"]))

    class Folder:
        def path(self, name: str) -> Path:
            return tmp_path

    (tmp_path / "config.json").write_text(json.dumps(config))
    assert counted == 50 * token_operations(Folder())


def test_equal_texts_are_no_work_done_and_long_ones_are_cut(tiny: System, tmp_path: Path) -> None:
    found = ("No effusion", "1 1 1", "No effusion", "No effusion.", "1 " * 600)
    (plan,) = WORKLOADS["texts"].plans(setting(tiny, tmp_path, texts=found, source="x.txt"))
    lengths = [len(row) for row in Tokenizer(tiny.bundle / "text", tokenization()).encode(plan.given["texts"])]
    assert plan.given["texts"][:4] == list(found[:4])
    assert 450 < lengths[4] <= 512, "cut, as by a user who must"
    assert plan.case.items == 5
    each = token_operations(open_bundle(tiny.bundle))
    assert plan.case.operations == sum((lengths[0], lengths[1], lengths[4])) * each
    assert "5 x.txt" in plan.case.title


def test_the_cases(tiny: System, tmp_path: Path) -> None:
    made = setting(tiny, tmp_path)
    plans = {plan.case.name: plan for each in WORKLOADS.values() if each.plans for plan in each.plans(made)}
    assert list(plans) == [
        "texts", "batch", "query", "shapes-1x16", "shapes-3x20", "corpus-1", "corpus-3", "corpus-6", "threads-1",
        "threads-2", "threads-3", "fill-mask", "pixels-1", "pixels-2", "files", "joint",
    ]  # fmt: skip
    tokenizer = made.tokenizer
    shape = plans["shapes-3x20"]
    assert [len(row) for row in tokenizer.encode(shape.given["texts"])] == [20] * 3
    assert shape.case.parameters == {"batch": 3, "tokens": 20}
    assert len(tokenizer.encode(plans["query"].given["texts"])[0]) == 16
    assert [plans[f"threads-{count}"].threads for count in (1, 2, 3)] == [1, 2, 3]
    for name, plan in plans.items():
        alone = name.startswith(("corpus", "threads"))
        assert plan.case.baseline == ("engine-cpu-fp32" if alone else REFERENCE.name)
        assert [plan.runs(entry) for entry in made.entries if entry.name == REFERENCE.name] == [not alone]
        assert any(plan.runs(entry) for entry in made.entries if entry.opener == "engine")
    assert np.load(plans["pixels-2"].given["pixels"]).shape == (2, 96, 96)
    assert len(plans["joint"].given["prompts"]) == 14


def test_the_sizes_cover_what_is_promised() -> None:
    assert set(WHOLE.shapes) == {(batch, tokens) for batch in (1, 8, 32) for tokens in (16, 64, 128, 512)}
    assert set(QUICK.shapes) <= {*WHOLE.shapes}
    assert WHOLE.pixels == (1, 4, 16)


def test_the_share_of_the_rate_is_taken_round_by_round() -> None:
    case = Case("t", "t", "t", "texts", 1, operations=RATE_OPERATIONS["int8"] / 4, baseline="a")
    row = Row("a", MEASURED, samples=[[1.0], [1.0], [2.0]])
    case.rates["int8"] = Rate(RATE_OPERATIONS["int8"], [[1.0], [2.0], [8.0]])
    # A quarter of the product's operations in the same time, in half of it, and in a quarter while all is slow.
    assert share_of_rate(case, row, "int8") == pytest.approx(0.5)


def test_texts_are_as_long_as_reports(shared_data: Path, tmp_path: Path) -> None:
    write_tokenizer(shared_data / "tokenizer", dict(CXR_BERT_CONFIG), tmp_path)
    tokenizer = Tokenizer(tmp_path, tokenization())
    texts = report_texts(300, 1, tokenizer)
    lengths = [len(row) for row in tokenizer.encode(texts)]
    assert len(set(texts)) == 300
    assert 46 < np.mean(lengths) < 54
    assert 85 < np.quantile(lengths, 0.95) < 115
    assert texts == report_texts(300, 1, tokenizer) != report_texts(300, 2, tokenizer)


def test_texts_of_a_length_in_any_vocabulary(tiny: System) -> None:
    tokenizer = Tokenizer(tiny.bundle / "text", tokenization())
    for tokens, count in ((16, 1), (16, 32), (64, 8), (512, 2)):
        texts = texts_of_length(tokens, count, tokenizer)
        assert [len(row) for row in tokenizer.encode(texts)] == [tokens] * count
        assert len(set(texts)) == count
    for row in tokenizer.encode(masked_texts(64, 8, tokenizer)):
        assert (len(row), row.count(tokenizer.mask_token_id)) == (64, 1)
    assert len(report_texts(5, 0, tokenizer)) == 5, "also where the vocabulary is small"


def test_texts_are_read_by_line_and_column(tmp_path: Path) -> None:
    plain = tmp_path / "a.txt"
    plain.write_bytes("No effusion\r\n\n  \nwith\fa form feed\nÄ".encode())
    assert read_texts(plain, "text") == ["No effusion", "with\fa form feed", "Ä"]
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"note": "x"}) + "\n\n" + json.dumps({"note": " "}) + "\n")
    assert read_texts(lines, "note") == ["x"]
    table = tmp_path / "a.CSV"
    table.write_text('id,note\n1,"No effusion,\nno edema"\n2, \n')
    assert read_texts(table, "note") == ["No effusion,\nno edema"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", "holds no texts"),
        ("a.txt", b"fine\n\xff\xfe", r"a\.txt:2: is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"note": "x"}', r"a\.jsonl:2: row 2 has no column 'text'"),
        ("a.jsonl", b"{", r"a\.jsonl:1: line 1 is not valid JSON"),
        ("a.jsonl", b"[1]", r"a\.jsonl:1: line 1 is not a JSON object"),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl:1: 'text' is a int, a string is expected"),
        ("a.csv", b"id,text\n1,No effusion, but pneumothorax\n", r"a\.csv:1: has 3 fields where the header has 2"),
        ("a.csv", b'id,text\n1,"x\n2,y\n', "line 2 .the quote that opens there never closes"),
        ("a.csv", b"id,note\n1,x\n", "has no column 'text'; it has: id, note"),
        ("a.md", b"text", "suffix '.md'"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PeerError, match=message):
        read_texts(tmp_path / name, "text")


def test_a_sample_is_in_random_order_and_follows_the_seed() -> None:
    items = [f"{index:03}" for index in range(100)]
    chosen = sample(items, 10, 1)
    assert len(set(chosen)) == 10
    assert chosen == sample(items, 10, 1) != sample(items, 10, 2)
    assert chosen == sample(items, 100, 1)[:10], "the beginning of a file is not what a smaller case takes"
    assert sorted(sample(items, 1000, 1)) == sorted(items)


def test_a_text_that_fits_is_not_cut(tiny: System) -> None:
    assert cut("a b c", Tokenizer(tiny.bundle / "text", tokenization())) == "a b c"


def test_jpegs_differ_and_follow_the_seed(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    paths = [Path(name) for name in write_jpegs(tmp_path, 2, 0)]
    assert [Image.open(path).size for path in paths] == [(2500, 2048)] * 2
    assert paths[0].read_bytes() != paths[1].read_bytes()
    assert Path(write_jpegs(tmp_path / "again", 1, 0)[0]).read_bytes() == paths[0].read_bytes()
