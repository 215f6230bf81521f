"""Checkpoints in the hub's layout: good ones in every spelling, and everything that can be wrong with them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from export.checkpoints import ExpectedTensors, fit_tensors, open_checkpoint, read_tensors
from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG, random_vocabulary, write_random_checkpoint
from export.checkpoints.tokenizer import write_tokenizer
from export.errors import CheckpointError
from export.families import FAMILIES
from export.reference import build_image_model, untrained_text
from tests.conftest import edit_json, tiny_config, tiny_family

IMAGE_WEIGHTS = "biovil_image_resnet50_proj_size_128.pt"


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


def opened(checkpoint: Path, name: str = "biovil"):
    return open_checkpoint(str(checkpoint), tiny_family(name), checkpoint.parent / "work")


@pytest.mark.slow
def test_the_full_size_layout_is_the_hub_s(full_checkpoint: Path) -> None:
    """Names and shapes as the published files have them (hi-ml-multimodal loads both strictly; see oracle.py)."""
    text = read_tensors(full_checkpoint / "pytorch_model.bin")
    assert text["bert.embeddings.word_embeddings.weight"].shape == (30522, 768)
    assert text["bert.embeddings.position_ids"].shape == (1, 512)
    assert text["cls.predictions.decoder.weight"].shape == (30522, 768)
    assert text["cls_projection_head.dense_to_hidden.weight"].shape == (128, 768)
    assert text["cls_projection_head.LayerNorm.bias"].shape == (128,)
    image = read_tensors(full_checkpoint / IMAGE_WEIGHTS)
    assert image["encoder.encoder.conv1.weight"].shape == (64, 3, 7, 7)
    assert image["encoder.encoder.layer4.2.bn3.num_batches_tracked"].shape == ()
    assert image["encoder.encoder.fc.weight"].shape == (1000, 2048)
    assert image["projector.model.0.weight"].shape == (128, 2048, 1, 1)
    assert image["projector.model.3.bias"].shape == (128,)
    names = {"config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "pytorch_model.bin"}
    assert names | {IMAGE_WEIGHTS} <= {file.name for file in full_checkpoint.iterdir()}


def test_the_random_config_is_the_published_one(shared_data: Path) -> None:
    assert json.loads((shared_data / "tokenizer" / "config.json").read_text()) == dict(CXR_BERT_CONFIG)


def test_the_random_vocabulary_is_a_valid_one() -> None:
    vocabulary = random_vocabulary(30522)
    assert len(set(vocabulary)) == len(vocabulary) == 30522
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with pytest.raises(ValueError, match="too small"):
        random_vocabulary(20)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, again, other = (
        read_tensors(
            write_random_checkpoint(tmp_path / str(index), tiny_family(), seed, tiny_config()) / "pytorch_model.bin"
        )
        for index, seed in enumerate((3, 3, 4))
    )
    name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_sources(checkpoint: Path, tmp_path: Path) -> None:
    folder = opened(checkpoint).source
    assert (folder.kind, folder.seed, folder.published) == ("random", 7, False)
    (checkpoint / "random_weights.json").unlink()
    folder = opened(checkpoint).source
    assert (folder.kind, folder.name, folder.seed) == ("folder", "checkpoint", None)
    assert set(folder.weights) == {"pytorch_model.bin", IMAGE_WEIGHTS}
    random = open_checkpoint("random", tiny_family("biovil-image"), tmp_path / "work", seed=5)
    assert (random.source.kind, random.source.seed) == ("random", 5)
    for source in ("nowhere", "a/b/c", str(checkpoint / "config.json")):
        with pytest.raises(CheckpointError, match="is no checkpoint: expected a folder"):
            open_checkpoint(source, tiny_family(), tmp_path)


def test_safetensors_without_the_tied_tensors(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "c", tiny_family(), 7, tiny_config(), safetensors=True)
    assert not (folder / "pytorch_model.bin").exists()
    checkpoint = opened(folder)
    assert "cls.predictions.decoder.weight" not in checkpoint.tensors["text"]
    model = untrained_text(checkpoint.config)
    family = tiny_family()
    expected = ExpectedTensors(model.state_dict(), tied=dict(family.text.tied))
    loaded = fit_tensors(checkpoint.tensors, {"text": expected})["text"]
    assert len(loaded) == len(checkpoint.tensors["text"])


def test_safetensors_come_before_pickles(checkpoint: Path, tmp_path: Path) -> None:
    other = write_random_checkpoint(tmp_path / "other", tiny_family(), 8, tiny_config(), safetensors=True)
    shutil.copy(other / "model.safetensors", checkpoint)
    assert set(opened(checkpoint).source.weights) == {"model.safetensors", IMAGE_WEIGHTS}


def test_old_pickles_and_half_precision_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3).half(), "b": torch.arange(3)}
    torch.save(tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    read = read_tensors(tmp_path / "old.bin")
    assert read["a"].dtype == torch.float32
    assert read["b"].dtype == torch.int64


class Attack:
    """What a hostile pickle does: call something when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", IMAGE_WEIGHTS])
def test_a_pickle_that_wants_to_run_code_is_refused(checkpoint: Path, tmp_path: Path, name: str) -> None:
    torch.save({"weight": Attack(tmp_path / "attacked")}, checkpoint / name)
    with pytest.raises(CheckpointError, match="cannot be read as plain weights"):
        opened(checkpoint)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.slow
def test_code_in_the_folder_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    """The hub's folder carries Python files and names them in config.json."""
    from export.build import export_bundle

    for name in ("configuration_cxrbert.py", "modeling_cxrbert.py"):
        (checkpoint / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "auto_map" in json.loads((checkpoint / "config.json").read_text())
    export_bundle(tiny_family("cxr-bert-specialized"), str(checkpoint), tmp_path / "bundle")
    assert not (tmp_path / "ran").exists()
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in (tmp_path / "bundle" / "text" / name).read_text()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut"])
def test_damaged_weights(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin cannot be read"):
        opened(checkpoint)


def test_a_file_that_is_no_state_dict(checkpoint: Path) -> None:
    torch.save([torch.ones(2)], checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="not a state dict"):
        opened(checkpoint)


def test_missing_files_are_listed_together(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path)
    for name in ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors or pytorch_model.bin"):
        assert name in str(caught.value)
    assert IMAGE_WEIGHTS in str(caught.value)


def test_faulty_tensors_are_listed_together_by_name() -> None:
    family = tiny_family()
    expected = build_image_model(family.image).state_dict()
    found = dict(expected)
    del found["projector.model.3.bias"], found["encoder.encoder.fc.weight"]
    found["head.weight"] = torch.ones(2)
    found["encoder.encoder.conv1.weight"] = torch.ones(64, 1, 7, 7)
    found["projector.model.1.bias"] = torch.full((128,), torch.nan)
    text = untrained_text(tiny_config()).state_dict()
    found_text = {name: value for name, value in text.items() if name != "bert.embeddings.word_embeddings.weight"}
    found_text["cls.predictions.decoder.bias"] = text["cls.predictions.bias"] + 1
    wanted = {
        "text": ExpectedTensors(text, tied=dict(family.text.tied)),
        "image": ExpectedTensors(expected, family.image.harmless),
    }
    with pytest.raises(CheckpointError, match="6 faults") as caught:
        fit_tensors({"text": found_text, "image": found}, wanted)
    message = str(caught.value)
    assert "text: missing     bert.embeddings.word_embeddings.weight (1000, 64)" in message
    assert "text: not tied    cls.predictions.decoder.bias differs from cls.predictions.bias" in message
    assert "image: missing     projector.model.3.bias (128,)" in message
    assert "unexpected  head.weight (2,)" in message
    assert "wrong shape encoder.encoder.conv1.weight (64, 1, 7, 7), expected (64, 3, 7, 7)" in message
    assert "not finite  projector.model.1.bias" in message
    assert "fc.weight" not in message, "known harmless"


def test_harmless_extras_of_published_checkpoints_are_accepted(checkpoint: Path) -> None:
    tensors = read_tensors(checkpoint / "pytorch_model.bin")
    tensors["bert.pooler.dense.weight"] = torch.ones(64, 64)  # BioViL-T's checkpoint has an unused pooler
    assert "bert.embeddings.position_ids" in tensors
    family = tiny_family()
    state = untrained_text(tiny_config()).state_dict()
    expected = ExpectedTensors(state, family.text.harmless, dict(family.text.tied))
    assert set(fit_tensors({"text": tensors}, {"text": expected})["text"]) == set(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(model_type="roberta"), "type 'roberta' .*; 'cxr-bert' or 'bert' is expected"),
        (lambda config: config.pop("projection_size"), "lacks usable numbers for: projection_size"),
        (lambda config: config.update(vocab_size=True, num_hidden_layers=0), "for: vocab_size, num_hidden_layers"),
        (lambda config: config.update(layer_norm_eps="small"), "for: layer_norm_eps"),
        (lambda config: config.update(num_attention_heads=7), "hidden_size=64 cannot be divided"),
        (lambda config: config.update(hidden_act="relu"), "hidden_act='relu'"),
        (lambda config: config.update(position_embedding_type="relative_key"), "relative_key"),
    ],
)
def test_configs_of_other_models(checkpoint: Path, change, message: str) -> None:
    edit_json(checkpoint / "config.json", change)
    with pytest.raises(CheckpointError, match=message):
        opened(checkpoint)


def test_a_config_that_is_not_json(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is not valid JSON"):
        opened(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tokens: tokens[:-1], r"999 tokens; config.json says vocab_size=1,000"),
        (lambda tokens: [*tokens[:-1], "the"], "lists tokens twice: 'the'"),
        (lambda tokens: ["[pad]", *tokens[1:]], r"lacks the special tokens \[PAD\]"),
        (lambda tokens: [tokens[1], tokens[0], *tokens[2:]], r"has \[PAD\] at 1, but config.json says pad_token_id=0"),
    ],
)
def test_vocabularies_that_do_not_fit(checkpoint: Path, tmp_path: Path, change, message: str) -> None:
    tokens = (checkpoint / "vocab.txt").read_text().splitlines()
    (checkpoint / "vocab.txt").write_text("\n".join(change(tokens)) + "\n")
    with pytest.raises(CheckpointError, match=message):
        write_tokenizer(checkpoint, tiny_config(), tmp_path)


def test_tokenizer_files_that_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "vocab.txt").write_bytes("[PAD]\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"vocab.txt is not UTF-8"):
        write_tokenizer(checkpoint, tiny_config(), tmp_path)
    for content, fault in (("[]", "not a valid JSON object: it holds a list"), ("{", "not valid JSON: Expecting")):
        (checkpoint / "tokenizer_config.json").write_text(content)
        with pytest.raises(CheckpointError, match=rf"tokenizer_config.json is {fault}"):
            write_tokenizer(checkpoint, tiny_config(), tmp_path)


def test_the_table_pins_the_published_weights() -> None:
    specialized = ("microsoft/BiomedVLP-CXR-BERT-specialized", "v1.1")
    general = ("microsoft/BiomedVLP-CXR-BERT-general", "93af83cefc6d3f7d0ef9a0b78b0d579452c6a546")
    biovil_t = ("microsoft/BiomedVLP-BioViL-T", "v1.0")
    biomedbert = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    biomedclip = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    assert {name: each.hub and (each.hub.repo, each.hub.revision) for name, each in FAMILIES.items()} == {
        "biovil": specialized,
        "cxr-bert-specialized": specialized,
        "cxr-bert-general": general,
        "cxr-bert-general-mean": general,
        "biovil-image": specialized,
        "biovil-t": biovil_t,
        "cxr-bert-biovil-t": biovil_t,
        "biovil-t-image": biovil_t,
        "bert": None,
        "biomedbert-abstract": (biomedbert, "d673b8835373c6fa116d6d8006b33d48734e305d"),
        "biomedbert-fulltext": (f"{biomedbert}-fulltext", "e0f532731f2a0b77750ddfd2364988701675ae38"),
        "bio-clinicalbert": ("emilyalsentzer/Bio_ClinicalBERT", "d5892b39a4adaed74b92212a44081509db72f87b"),
        "biomedclip": (biomedclip, "9f341de24bfb00180f1b847274256e9b65a3a32e"),
        "clip-vit-base-patch32": ("openai/clip-vit-base-patch32", "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"),
        "clip-vit-base-patch16": ("openai/clip-vit-base-patch16", "57c216476eefef5ab752ec549e440a49ae4ae5f3"),
        "clip-vit-large-patch14": ("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"),
        "fashion-clip": ("patrickjohncyh/fashion-clip", "7e3ba62ce16b379a1ab479346b66f192e76f51b7"),
        "clip": None,
        "gloria": None,
        "convirt": None,
    }
    digests = {name: each.image.weights_md5 for name, each in FAMILIES.items() if each.image and each.image.weights_md5}
    assert digests == {
        **dict.fromkeys(("biovil", "biovil-image"), "02ce6ee460f72efd599295f440dbb453"),
        **dict.fromkeys(("biovil-t", "biovil-t-image"), "a83080e2f23aa584a4f2b24c39b1bb64"),
    }
