"""Tokenizer files as transformers 4 and 5 save them: the bundle's token ids are those of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer
from transformers import BertTokenizer, BertTokenizerFast

from export.__main__ import main
from export.checkpoints import open_checkpoint
from export.checkpoints.models import load_models
from export.checkpoints.tokenizer import write_tokenizer
from export.errors import CheckpointError
from export.families import TextAxes
from export.proof.input_parity import token_parity
from export.samples import SENTENCES
from runtime import load
from runtime.text import Tokenizer
from tests.conftest import System, edit_json, tiny_config, tiny_family
from tests.oracle import CXRBertConfig, CXRBertModel
from tests.runtime.parts import tokenization

TEXTS = [
    *(text.rstrip(".") for text in SENTENCES),
    "LEFT Lower Lobe, Chest-Tube in place, chest-tubes",
    "Ménière's naïve Ångström façade",
    "肺炎 left 胸部X線",
    "pneumothorax pneumothoraces [FINDINGS] clear",
    "a\u00a0b\tc\u200bd 3.5×4cm²",
]
NAMES = ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json")


@pytest.fixture
def files(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The files of a slow tokenizer, as the hub has them, with a piece of a word in capitals and one with an accent."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(tiny_checkpoint / name, folder)
    tokens = (folder / "vocab.txt").read_text().replace("[unused0]", "LEFT").replace("[unused1]", "façade")
    (folder / "vocab.txt").write_text(tokens.replace("[unused2]", "肺"))
    return folder


def ids(folder: Path, tmp_path: Path, vocab_size: int = 1000) -> list[list[int]]:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    write_tokenizer(folder, tiny_config() | {"vocab_size": vocab_size}, out)
    assert token_parity(Tokenizer(out, tokenization()), folder, AXES).figures == {"differing": 0.0}
    return [RustTokenizer.from_file(str(out / "tokenizer.json")).encode(text).ids for text in TEXTS]


AXES = TextAxes(tokenization(), "cls", "cxr-bert")
OPTIONS = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"strip_accents": True, "do_lower_case": False},
    {"tokenize_chinese_chars": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kept", [("tokenizer.json", "tokenizer_config.json"), None, ("tokenizer.json",)], ids=str)
def test_what_transformers_saves(
    files: Path, tmp_path: Path, options: dict[str, bool], kept: tuple[str, ...] | None
) -> None:
    """Version 5 writes tokenizer.json and tokenizer_config.json; version 4 vocab.txt and others besides."""
    tokenizer = BertTokenizerFast.from_pretrained(str(files), **options)
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    if kept is None:
        shutil.copy(files / "vocab.txt", saved)
        shutil.copy(files / "special_tokens_map.json", saved)
    else:
        for file in saved.iterdir():
            if file.name not in kept:
                file.unlink()
    assert ids(saved, tmp_path) == [tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_hub_s_files_of_slow_tokenizers(files: Path, tmp_path: Path, options: dict[str, bool]) -> None:
    edit_json(files / "tokenizer_config.json", lambda data: data.update(options))
    tokenizer = BertTokenizer.from_pretrained(str(files))
    assert ids(files, tmp_path) == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_the_settings_change_the_ids(files: Path, tmp_path: Path) -> None:
    """The comparisons above would notice a setting that is not read."""
    found = []
    usual = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
    for options in OPTIONS:
        edit_json(files / "tokenizer_config.json", lambda data, options=options: data.update(usual | options))
        found.append(str(ids(files, tmp_path)))
    assert len(set(found)) == len(OPTIONS)


def with_added(folder: Path) -> Any:
    """A tokenizer with two words and a special token that fine-tuning added; one was in the vocabulary before."""
    tokenizer = BertTokenizerFast.from_pretrained(str(folder))
    tokenizer.add_tokens(["pneumothorax", "Chest-Tube"])
    tokenizer.add_tokens(["[FINDINGS]"], special_tokens=True)
    return tokenizer


def test_added_tokens(files: Path, tmp_path: Path) -> None:
    tokenizer = with_added(files)
    assert len(tokenizer) == 1002
    tokenizer.save_pretrained(tmp_path / "saved")
    found = ids(tmp_path / "saved", tmp_path, 1002)
    assert found == [tokenizer(text)["input_ids"] for text in TEXTS]
    assert any(1000 in row for row in found)
    assert any(1001 in row for row in found)


@pytest.mark.parametrize("decoder", [True, False])
def test_added_tokens_of_slow_tokenizers(files: Path, tmp_path: Path, decoder: bool) -> None:
    """Version 4 writes added_tokens.json, and since 4.34 an added_tokens_decoder with all that is known of them."""
    expected = with_added(files)
    (files / "added_tokens.json").write_text(json.dumps({"Chest-Tube": 1000, "[FINDINGS]": 1001}))
    if decoder:
        entries = {
            str(index): {"content": str(token), "lstrip": False, "rstrip": False, "single_word": False,
                         "normalized": token.normalized, "special": token.special}
            for index, token in expected.added_tokens_decoder.items()
        }  # fmt: skip
        edit_json(files / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder=entries))
    edit_json(files / "special_tokens_map.json", lambda data: data.update(additional_special_tokens=["[FINDINGS]"]))
    found = ids(files, tmp_path, 1002)
    if not decoder:  # the older file does not name added tokens that were in the vocabulary
        found, expected = found[:-2], expected
    assert found == [expected(text)["input_ids"] for text in TEXTS][: len(found)]


def saved_json(folder: Path) -> Path:
    BertTokenizerFast.from_pretrained(str(folder)).save_pretrained(folder)
    return folder / "tokenizer.json"


def rename(data: dict, old: str, new: str) -> None:
    data["model"]["vocab"][new] = data["model"]["vocab"].pop(old)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: rename(d, "[unused7]", "extra"), r"vocab.txt and .*r.json disagree: '(extra|\[unused7\])' has id"),
        (lambda d: d["model"]["vocab"].update(extra=1000), "1,001 tokens; config.json says vocab_size=1,000"),
        (lambda d: d["model"]["vocab"].pop("[unused9]"), "999 tokens; config.json says vocab_size=1,000"),
        (lambda d: d["model"]["vocab"].update({"[unused9]": 5}), "not the numbers from 0 to 999"),
        (lambda d: d["model"]["vocab"].update({"[unused9]": "5"}), "not whole numbers"),
        (lambda d: d["added_tokens"].append({"id": 7, "content": "heart"}), "'heart' have two ids"),
        (lambda d: d["added_tokens"].append({"content": "x"}), "without a content and an id"),
        (lambda d: d.update(model={"type": "BPE", "vocab": {}, "merges": []}), "of type 'BPE'; BERT's 'WordPiece'"),
        (lambda d: d.update(model=None), "WordPiece"),
        (lambda d: d.update(normalizer=None), "normalizer=None"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer='Whitespace'"),
        (lambda d: d.update(post_processor=None), "post_processor=None"),
        (lambda d: d["normalizer"].update(lowercase=False), "do_lower_case is False in one, True in the other"),
        (lambda d: d["normalizer"].update(strip_accents=False), "strip_accents is False in one, True in the other"),
        (lambda d: d["normalizer"].update(handle_chinese_chars=False), "tokenize_chinese_chars is False in one"),
        (lambda d: d["normalizer"].update(lowercase="yes"), "true or false is expected for do_lower_case='yes'"),
        (lambda d: d["normalizer"].update(clean_text=False), "clean_text=False"),
        (lambda d: d["model"].update(continuing_subword_prefix="@@"), "continuing_subword_prefix='@@'"),
        (lambda d: d["model"].update(max_input_chars_per_word=20), "max_input_chars_per_word=20"),
        (lambda d: d["model"].update(unk_token="<unk>"), "unk_token='<unk>'"),
    ],
)  # fmt: skip
def test_tokenizer_json_that_does_not_fit(
    files: Path, tmp_path: Path, change: Callable[[dict], None], fault: str
) -> None:
    edit_json(saved_json(files), change)
    with pytest.raises(CheckpointError, match=fault):
        write_tokenizer(files, tiny_config(), tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda d: d.update(mask_token="<mask>"), "lacks the special tokens <mask>"),
        (lambda d: d.update(mask_token=5), "5 is no token"),
        (lambda d: d.update(do_lower_case="no"), "true or false is expected for do_lower_case='no'"),
        (lambda d: d.update(added_tokens_decoder={"a": {}}), "added_tokens_decoder is no mapping"),
        (lambda d: d.update(added_tokens_decoder={"3": {"content": "heart"}}), "'heart' have two ids"),
        (lambda d: d.update(additional_special_tokens="[X]"), "a list is expected for additional_special_tokens"),
        (lambda d: d.update(additional_special_tokens=["[X]"]), "1,001 tokens, 1 added later among them; config.json"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(files: Path, tmp_path: Path, change: Callable[[dict], None], fault: str) -> None:
    edit_json(files / "tokenizer_config.json", change)
    with pytest.raises(CheckpointError, match=fault):
        write_tokenizer(files, tiny_config(), tmp_path)


def test_ids_of_added_tokens_that_files_state_differently(files: Path, tmp_path: Path) -> None:
    with_added(files).save_pretrained(files)
    (files / "vocab.txt").unlink()
    (files / "added_tokens.json").write_text(json.dumps({"Chest-Tube": 1001}))
    with pytest.raises(CheckpointError, match="gives the added tokens 'Chest-Tube' other ids"):
        write_tokenizer(files, tiny_config() | {"vocab_size": 1002}, tmp_path)


def test_a_vocabulary_with_a_byte_order_mark(files: Path, tmp_path: Path) -> None:
    (files / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + (files / "vocab.txt").read_bytes())
    with pytest.raises(CheckpointError, match="byte-order mark"):
        write_tokenizer(files, tiny_config(), tmp_path)


def test_line_ends_of_windows(files: Path, tmp_path: Path) -> None:
    expected = ids(files, tmp_path)
    (files / "vocab.txt").write_bytes((files / "vocab.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert ids(files, tmp_path) == expected


@pytest.fixture(scope="module")
def fine_tuned(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's own class, with an added word, saved by the installed transformers."""
    folder = tmp_path_factory.mktemp("saved") / "fine-tuned"
    model = CXRBertModel.from_pretrained(
        str(tiny_checkpoint), config=CXRBertConfig.from_pretrained(str(tiny_checkpoint))
    )
    tokenizer = BertTokenizerFast.from_pretrained(str(tiny_checkpoint))
    tokenizer.add_tokens(["Chest-Tube"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_what_save_pretrained_writes_exports(fine_tuned: Path, tiny: System, tmp_path: Path) -> None:
    assert (fine_tuned / "model.safetensors").is_file()
    assert (fine_tuned / "tokenizer.json").is_file()
    (fine_tuned / "vocab.txt").unlink(missing_ok=True)
    out = tmp_path / "bundle"
    assert main(["cxr-bert-specialized", "--checkpoint", str(fine_tuned), "--out", str(out)]) == 0
    engine = load(out, provider="cpu")
    text = "Chest-Tube with no pneumothorax"
    reference = BertTokenizerFast.from_pretrained(str(fine_tuned))
    assert engine.text.tokenizer.encode([text]) == [reference(text)["input_ids"]]
    assert 1000 in reference(text)["input_ids"]
    model = CXRBertModel.from_pretrained(str(fine_tuned)).eval()
    batch = reference(text, return_tensors="pt")
    expected = model.get_projected_text_embeddings(batch["input_ids"], batch["attention_mask"])
    assert abs(engine.text.encode([text]) - expected.detach().numpy()).max() < 1e-5


def test_shards_and_a_renamed_type_load(fine_tuned: Path, tmp_path: Path) -> None:
    """transformers' own shards, and the config of a subclass of BertForMaskedLM with BERT's config class."""
    folder = tmp_path / "sharded"
    CXRBertModel.from_pretrained(str(fine_tuned)).save_pretrained(folder, max_shard_size="100KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(fine_tuned / name, folder)
    edit_json(folder / "config.json", lambda config: config.update(model_type="bert"))
    family = tiny_family("cxr-bert-specialized")
    checkpoint = open_checkpoint(str(folder), family, tmp_path)
    whole = open_checkpoint(str(fine_tuned), family, tmp_path)
    assert len(checkpoint.source.weights) > 2
    first, second = (load_models(family, each)["text"].state_dict() for each in (checkpoint, whole))
    assert all(bool((first[name] == second[name]).all()) for name in first)
