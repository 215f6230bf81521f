"""Weights as training programs save them: wrapped, sharded, in other precisions, with more or less than the model."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from export.__main__ import main
from export.checkpoints import ExpectedTensors, fit_tensors, open_checkpoint, read_tensors
from export.checkpoints.models import load_models
from export.checkpoints.weights import read_shards
from export.errors import CheckpointError
from runtime import load
from tests.conftest import System, edit_json, tiny_family

IMAGE_WEIGHTS = "biovil_image_resnet50_proj_size_128.pt"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def text(tiny_checkpoint: Path) -> Tensors:
    return read_tensors(tiny_checkpoint / "pytorch_model.bin")


@pytest.fixture(scope="module")
def image(tiny_checkpoint: Path) -> Tensors:
    return read_tensors(tiny_checkpoint / IMAGE_WEIGHTS)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    copied = Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))
    (copied / "random_weights.json").unlink()
    return copied


def loaded(folder: Path) -> tuple[dict[str, Tensors], list[str]]:
    """The state of all parts as an export loads them, and what it says to the user."""
    notes: list[str] = []
    family = tiny_family()
    checkpoint = open_checkpoint(str(folder), family, folder / "work", note=notes.append)
    models = load_models(family, checkpoint, notes.append)
    return {part: each.model.state_dict() for part, each in models.items()}, notes


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def compiled(tensors: Tensors) -> Tensors:
    """A part that torch.compile wrapped inside the model."""
    return {
        name.replace("bert.", "bert._orig_mod.", 1).replace("encoder.", "encoder._orig_mod.", 1): value
        for name, value in tensors.items()
    }


def lightning(tensors: Tensors) -> dict:
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(prefixed(tensors, "model.")),
        "hyper_parameters": {"learning_rate": 1e-4, "name": "fine-tuning"},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}}],
    }


WRAPPED: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "DataParallel": (lambda t: prefixed(t, "module."), r"'module\.' taken off"),
    "torch.compile": (lambda t: prefixed(t, "_orig_mod."), r"'_orig_mod\.' taken off"),
    "a compiled part": (compiled, r"'_orig_mod\.' taken off"),
    "both": (lambda t: prefixed(t, "module._orig_mod."), r"'_orig_mod\.' and 'module\.' taken off"),
    "FSDP": (lambda t: prefixed(t, "_fsdp_wrapped_module."), "taken off"),
    "an attribute": (lambda t: prefixed(t, "model."), r"'model\.' taken off"),
    "attributes": (lambda t: prefixed(t, "net.encoder_of_mine."), r"'net\.encoder_of_mine\.' taken off"),
    "model and DataParallel": (lambda t: prefixed(t, "model.module."), r"'module\.' and 'model\.' taken off"),
    "Lightning": (lightning, r"taken from 'state_dict'; left out: epoch, global_step"),
    "state_dict": (lambda t: {"state_dict": t}, "taken from 'state_dict'$"),
    "model_state_dict": (lambda t: {"model_state_dict": t, "optimizer": {}, "loss": 0.1}, "left out: optimizer, loss"),
    "model": (lambda t: {"model": prefixed(t, "module."), "args": {"lr": 1}}, "taken from 'model'; left out: args"),
    "DeepSpeed": (lambda t: {"module": t, "ds_version": "0.15"}, "taken from 'module'"),
    "twice": (lambda t: {"state_dict": {"model": t}, "epoch": 1}, "taken from 'model'"),
    "parameters": (lambda t: {n: torch.nn.Parameter(v) if v.is_floating_point() else v for n, v in t.items()}, ""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_weights_are_unwrapped_and_it_is_said(folder: Path, text: Tensors, image: Tensors, name: str) -> None:
    expected, _ = loaded(folder)
    wrap, said = WRAPPED[name]
    torch.save(wrap(text), folder / "pytorch_model.bin")
    torch.save(wrap(image), folder / IMAGE_WEIGHTS)
    found, notes = loaded(folder)
    for part in ("text", "image"):
        assert all(torch.equal(found[part][key], value) for key, value in expected[part].items())
    if said:
        for part in ("text|pytorch_model", "image"):
            assert any(re.search(said, note) and re.search(part, note) for note in notes), notes
    else:
        assert notes == []


def test_the_rest_of_a_larger_model_is_left_out_and_it_is_said(folder: Path, text: Tensors, image: Tensors) -> None:
    expected, _ = loaded(folder)
    both = {**prefixed(text, "text_model."), **prefixed(image, "image_model."), "logit_scale": torch.tensor(1.0)}
    for name in ("pytorch_model.bin", IMAGE_WEIGHTS):
        torch.save({"state_dict": both}, folder / name)
    found, notes = loaded(folder)
    assert all(torch.equal(found[part][key], value) for part in expected for key, value in expected[part].items())
    assert any(note.startswith(f"text: {len(image) + 1} tensors outside 'text_model.' are left out") for note in notes)
    assert any("logit_scale" in note for note in notes)


def test_old_names_of_the_layer_normalization(folder: Path, text: Tensors) -> None:
    expected, _ = loaded(folder)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in text.items()
    }
    torch.save(old, folder / "pytorch_model.bin")
    found, _ = loaded(folder)
    assert all(torch.equal(found["text"][key], value) for key, value in expected["text"].items())


def test_an_encoder_without_its_prefix_beside_the_heads(folder: Path, text: Tensors) -> None:
    expected, _ = loaded(folder)
    torch.save({name.removeprefix("bert."): value for name, value in text.items()}, folder / "pytorch_model.bin")
    found, notes = loaded(folder)
    assert all(torch.equal(found["text"][key], value) for key, value in expected["text"].items())
    assert notes == ["text: 'bert.' put before the names of tensors, which were saved without it"]


@pytest.mark.parametrize(
    ("wrap", "fault"),
    [
        (lambda t: {**prefixed(t, "model."), **prefixed(t, "ema_model.")}, "The model is there 2 times"),
        (lambda t: {"model": t, "model_state_dict": t}, "several sets of weights: 'model_state_dict', 'model'"),
        (lambda t: {**t, "module.bert.pooler.dense.bias": t["cls.predictions.bias"], "bert.pooler.dense.bias": 0 *
                    t["cls.predictions.bias"]}, "several tensors have the name bert.pooler.dense.bias"),
        (lambda t: {"optimizer": {"lr": 1.0}, "epoch": 3}, "not a state dict"),
        (lambda t: {**t, "step": 5}, "step is no tensor"),
        (lambda t: {1: t["cls.predictions.bias"]}, "its keys are no names"),
        (lambda t: {}, "without tensors"),
        (lambda t: {f"base_model.model.{name}.lora_A.weight": value for name, value in t.items()}, "merge_and_unload"),
        (lambda t: {name: value.to("meta") for name, value in t.items()}, "without data"),
        (lambda t: {name: value.to_sparse() for name, value in t.items()}, "no plain arrays"),
        (lambda t: {name: value.to(torch.float8_e4m3fn) for name, value in t.items()}, "a quantized checkpoint"),
        (lambda t: {name: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8) for name, value in t.items()},
         "no plain arrays"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_unwrapped(folder: Path, text: Tensors, wrap, fault: str) -> None:
    torch.save(wrap(text), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=fault) as caught:
        loaded(folder)
    assert "\n" not in str(caught.value)


class Settings:
    """An object such as experiment trackers leave in hyper-parameters."""


@pytest.mark.parametrize("name", ["pytorch_model.bin", IMAGE_WEIGHTS])
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_in_hyper_parameters(folder: Path, text: Tensors, image: Tensors, name: str, zipped: bool) -> None:
    tensors = text if name == "pytorch_model.bin" else image
    saved = lightning(tensors) | {"hyper_parameters": argparse.Namespace(settings=Settings(), path=Path("/data"))}
    torch.save(saved, folder / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace") as caught:
        loaded(folder)
    message = str(caught.value)
    assert "torch.save(model.state_dict()" in message
    assert ("PyTorch Lightning" in message) == zipped
    assert "weights_only" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("dtype", "said"),
    [(torch.float16, "float16 tensors are read as float32$"), (torch.bfloat16, "bfloat16 tensors are read as float32$"),
     (torch.float64, "float64 tensors are read as float32, rounded$")],
)  # fmt: skip
def test_other_precisions_are_read_and_it_is_said(folder: Path, text: Tensors, dtype: torch.dtype, said: str) -> None:
    torch.save({name: v.to(dtype) if v.is_floating_point() else v for name, v in text.items()},
               folder / "pytorch_model.bin")  # fmt: skip
    found, notes = loaded(folder)
    name = "bert.embeddings.word_embeddings.weight"
    assert found["text"][name].dtype == torch.float32
    assert torch.equal(found["text"][name], text[name].to(dtype).float())
    assert len(notes) == 1
    assert re.search(said, notes[0])


def test_whole_numbers_are_no_weights(folder: Path, text: Tensors) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.save(text | {name: text[name].mul(100).to(torch.int8)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"wrong type  {name} int8, expected floating point"):
        loaded(folder)


def test_many_missing_and_unexpected_tensors_are_summed_up() -> None:
    layers = {f"bert.encoder.layer.{index}.output.dense.weight": torch.ones(2) for index in range(24)}
    wanted = layers | {"bert.embeddings.LayerNorm.bias": torch.ones(2)}
    found = {f"vit.blocks.{index}.norm.weight": torch.ones(2) for index in range(11)} | {"head": torch.ones(1)}
    with pytest.raises(CheckpointError, match="37 faults") as caught:
        fit_tensors({"text": found}, {"text": ExpectedTensors(wanted)})
    assert str(caught.value).splitlines()[1:] == [
        "  text: 25 tensors missing: bert.encoder.layer.* (24), bert.embeddings.*",
        "  text: 12 tensors unexpected: vit.blocks.* (11), head",
    ]


def test_many_wrong_shapes_and_nan_are_summed_up(text: Tensors) -> None:
    with pytest.raises(CheckpointError) as caught:
        fit_tensors({"text": {name: value[:1] for name, value in text.items()}}, {"text": ExpectedTensors(text)})
    assert " tensors wrong shape: bert.encoder.layer.* (48)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    broken = {name: torch.full_like(value, torch.nan) if value.is_floating_point() else value for name, value in
              text.items()}  # fmt: skip
    with pytest.raises(CheckpointError, match=r"tensors not finite: bert.encoder.layer.\* \(48\)"):
        fit_tensors({"text": broken}, {"text": ExpectedTensors(text)})


def test_ten_tensors_are_listed_by_name() -> None:
    wanted = {f"layer.{index}.weight": torch.ones(2) for index in range(10)}
    with pytest.raises(CheckpointError, match="10 faults") as caught:
        fit_tensors({"text": {}}, {"text": ExpectedTensors(wanted)})
    assert len(str(caught.value).splitlines()) == 11
    assert "text: missing     layer.9.weight (2,)" in str(caught.value)


def test_missing_heads_are_explained(folder: Path, text: Tensors) -> None:
    torch.save({n: v for n, v in text.items() if not n.startswith("cls_projection")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"the projection head is missing.*cxr-bert-general") as caught:
        loaded(folder)
    assert "the head that fills masks" not in str(caught.value)
    torch.save({n: v for n, v in text.items() if n.startswith("bert.")}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="the head that fills masks is missing"):
        loaded(folder)
    torch.save({"vit.layer.0.weight": torch.ones(2)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="tensors missing") as caught:
        loaded(folder)
    assert "head that fills masks is missing" not in str(caught.value), "nothing of the model is there"


def shard(folder: Path, tensors: Tensors, count: int = 3, *, pickled: bool = False) -> Path:
    """Write tensors as shards, the way transformers names them."""
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    placed = {}
    for number in range(count):
        part = {name: value.clone() for name, value in list(tensors.items())[number::count]}
        name = f"{stem}-{number + 1:05}-of-{count:05}.{suffix}"
        (torch.save if pickled else save_file)(part, folder / name)
        placed |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return index


@pytest.mark.parametrize("pickled", [False, True])
def test_shards_are_read_and_their_digests_recorded(folder: Path, text: Tensors, pickled: bool) -> None:
    expected, _ = loaded(folder)
    (folder / "pytorch_model.bin").unlink()
    shard(folder, {name: value.half() for name, value in text.items()}, pickled=pickled)
    checkpoint = open_checkpoint(str(folder), tiny_family(), folder / "work")
    found, notes = loaded(folder)
    assert torch.equal(found["text"]["cls.predictions.bias"], expected["text"]["cls.predictions.bias"].half().float())
    assert len(notes) == 1, "one line for all shards"
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if "-of-" in file.name
    }
    assert len(digests) == 3
    assert digests.items() <= checkpoint.source.weights.items()
    assert set(checkpoint.source.weights) == {*digests, IMAGE_WEIGHTS}


def test_shards_that_do_not_fit_their_index(folder: Path, text: Tensors) -> None:
    (folder / "pytorch_model.bin").unlink()
    index = shard(folder, text)
    second = folder / "model-00002-of-00003.safetensors"
    content = read_tensors(second)
    save_file(content | {"extra": torch.ones(1)}, second)
    with pytest.raises(CheckpointError, match="holds extra, which the index does not place there"):
        loaded(folder)
    lost = next(iter(content))
    save_file({name: value for name, value in content.items() if name != lost}, second)
    with pytest.raises(CheckpointError, match=rf"00002-of-00003.safetensors lacks {lost}"):
        read_shards(index)
    second.unlink()
    with pytest.raises(CheckpointError, match=r"names 3 shards, of which 1 are missing: model-00002-of-00003"):
        loaded(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "C:\\m.bin", ""])
def test_an_index_stays_in_its_folder(folder: Path, text: Tensors, name: str) -> None:
    (folder / "pytorch_model.bin").unlink()
    index = shard(folder, text)
    edit_json(index, lambda data: data["weight_map"].update({"cls.predictions.bias": name}))
    with pytest.raises(CheckpointError, match="names shards that are no files beside it"):
        loaded(folder)


@pytest.mark.parametrize("placed", [None, {}, [], {"a": 1}])
def test_an_index_that_cannot_be_used(folder: Path, text: Tensors, placed: object) -> None:
    (folder / "pytorch_model.bin").unlink()
    shard(folder, text).write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(CheckpointError, match='no usable "weight_map"'):
        loaded(folder)


def test_other_formats_beside_the_one_that_is_read_are_named(folder: Path, text: Tensors) -> None:
    save_file({name: value.clone() for name, value in text.items()}, folder / "model.safetensors")
    assert loaded(folder)[1] == ["model.safetensors is read; pytorch_model.bin beside it is not"]


def test_tensors_that_share_memory_or_are_not_contiguous(folder: Path, text: Tensors) -> None:
    expected, _ = loaded(folder)
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.save(text | {name: text[name].T.contiguous().T}, folder / "pytorch_model.bin")
    assert not read_tensors(folder / "pytorch_model.bin")[name].is_contiguous()
    found, _ = loaded(folder)
    assert torch.equal(found["text"][name], expected["text"][name])


@pytest.mark.slow
def test_a_checkpoint_of_a_training_program_exports(tiny: System, text: Tensors, tmp_path: Path, capfd) -> None:
    """By the command line, to the same graph as the plain file."""
    folder = Path(shutil.copytree(tiny.checkpoint, tmp_path / "c"))
    torch.save(lightning(text), folder / "pytorch_model.bin")
    out = tmp_path / "bundle"
    assert main(["cxr-bert-specialized", "--checkpoint", str(folder), "--out", str(out)]) == 0
    said = capfd.readouterr().err
    assert "pytorch_model.bin is what a training program saved: its weights are taken from 'state_dict'" in said
    assert "text: 'model.' taken off the tensors' names" in said
    sentences = ["No pleural effusion.", "Left lower lobe opacity."]
    first, second = (load(bundle, provider="cpu").text.encode(sentences) for bundle in (out, tiny.bundle))
    assert (first == second).all()
