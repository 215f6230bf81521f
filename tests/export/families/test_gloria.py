"""GLoRIA and ConVIRT: their checkpoints read, refused, and exported; embeddings against GLoRIA's own code."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel, BertTokenizer

import runtime
from export.build import export_bundle
from export.checkpoints import open_checkpoint
from export.checkpoints.inert_weights import read_inert
from export.checkpoints.layouts import BOTH
from export.checkpoints.layouts import gloria as gloria_layout
from export.checkpoints.models import load_models
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.checkpoints.random_two_towers import GLORIA_FILE, TWO_TOWERS, _configuration, _ForeignPickler, sizes_of
from export.errors import CheckpointError
from export.families import FAMILIES, Family
from export.reference import bert_config
from export.samples import chest_phantom
from tests.conftest import System, tiny_config
from tests.export.families.gloria_upstream import BertEncoder, ImageEncoder, attention_maps, get_local_similarities
from tests.runtime.image import opencv
from tests.runtime.text.test_cleaning import as_gloria

SIZE = 64
CONFIG = {**tiny_config(), "num_hidden_layers": 5}
REPORTS = [
    "1. No pleural effusion.\n2. Mild cardiomegaly, unchanged.",
    "Left basilar atelectasis. Effusion. The heart size is normal.",
    "severe pulmonary edema",
    "No pneumothorax. " * 40,
    "Pneumonia",
]


def small(name: str) -> Family:
    family = FAMILIES[name]
    return replace(family, image=replace(family.image, blocks=(1, 1, 1, 1), embedding_size=SIZE))


@pytest.fixture(scope="module")
def gloria_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("gloria") / "checkpoint", small("gloria"), 3, CONFIG)


@pytest.fixture(scope="module")
def convirt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("convirt") / "checkpoint", small("convirt"), 4, CONFIG)


@pytest.fixture
def folder(gloria_folder: Path, tmp_path: Path) -> Path:
    copied = Path(shutil.copytree(gloria_folder, tmp_path / "given"))
    (copied / "random_weights.json").unlink()
    return copied


def opened(source: Path, name: str = "gloria", notes: list[str] | None = None) -> Any:
    return open_checkpoint(str(source), small(name), source / "work", note=(notes if notes is not None else []).append)


def rewrite(path: Path, **changed: Any) -> None:
    """The checkpoint with other entries, its tensors as they are."""
    read = read_inert(path)
    content = {"state_dict": read.tensors(read.content["state_dict"]), **changed}
    torch.save(content, path, pickle_module=SimpleNamespace(__name__="pickle", Pickler=_ForeignPickler))


def test_names_at_full_size_are_those_of_upstream_s_modules() -> None:
    """As `load_gloria` gives them to upstream's modules: transformers' BertModel, and torchvision's ResNet-50 without
    fc. Of transformers before 4.31 a buffer comes along."""
    with torch.device("meta"):
        config = gloria_layout.BERT_BASE
        modules = TWO_TOWERS["gloria"][0](config, FAMILIES["gloria"].image)
        names = {
            prefix.removeprefix("gloria.") + name for prefix, each in modules.items() for name in each.state_dict()
        }
        bert = {f"text_encoder.model.{name}" for name in BertModel(bert_config(config)).state_dict()}
        image = {f"img_encoder.{name}" for name in ImageEncoder().state_dict()}
    assert names == bert | image
    assert len(bert) == 199
    assert "text_encoder.model.pooler.dense.weight" in bert
    assert "img_encoder.local_embedder.weight" in image


def test_the_file_alone_and_its_folder_are_the_same(folder: Path) -> None:
    notes: list[str] = []
    by_folder, by_file = opened(folder, notes=notes), opened(folder / GLORIA_FILE)
    assert by_folder.tensors[BOTH].keys() == by_file.tensors[BOTH].keys()
    assert by_file.source.name == GLORIA_FILE
    assert list(by_file.source.weights) == [GLORIA_FILE]
    assert by_folder.source.name == "given"
    assert any("not run, not imported and left out: epoch" in note for note in notes)
    assert by_file.text.tokenization.max_length == 97
    assert (by_file.joint.score, by_file.joint.logit_scale) == ("softmax", 10.0)
    expected = torch.load(folder / GLORIA_FILE, weights_only=False, pickle_module=_Permissive)["state_dict"]
    for name, value in expected.items():
        assert torch.equal(by_file.tensors[BOTH][name.removeprefix("gloria.")], value), name


class _Anything:
    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Permissive:
    """pickle, with a class in place of OmegaConf's: torch reads the file as upstream does."""

    import pickle as _pickle

    __name__ = "pickle"
    Pickler, load, loads = _pickle.Pickler, _pickle.load, _pickle.loads

    class Unpickler(_pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return _Anything if module.startswith("omegaconf") else super().find_class(module, name)


def test_of_two_checkpoints_one_must_be_named(folder: Path) -> None:
    shutil.copy(folder / GLORIA_FILE, folder / "epoch=3.ckpt")
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints: chexpert_resnet50\.ckpt, epoch=3\.ckpt"):
        opened(folder)
    assert opened(folder / "epoch=3.ckpt").source.name == "epoch=3.ckpt"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model.text.last_n_layers", 1, "model.text.last_n_layers is 1, 4 is expected"),
        ("model.text.aggregate_method", "mean", "model.text.aggregate_method is 'mean', 'sum' is expected"),
        ("model.text.norm", True, "model.text.norm is True, False is expected"),
        ("model.vision.model_name", "resnet_18", "model.vision.model_name is 'resnet_18', 'resnet_50' is expected"),
        ("data.text.word_num", 25, "data.text.word_num is 25, 97 is expected"),
    ],
)
def test_other_settings_are_refused(folder: Path, name: str, value: Any, said: str) -> None:
    rewrite(folder / GLORIA_FILE, hyper_parameters=_configuration({**gloria_layout.SETTINGS, name: value}))
    with pytest.raises(CheckpointError, match=re.escape(said)):
        opened(folder)


def test_settings_of_plain_dictionaries_and_none_at_all(folder: Path) -> None:
    rewrite(folder / GLORIA_FILE, hyper_parameters={"model": {"text": {"last_n_layers": 1}}})
    with pytest.raises(CheckpointError, match="last_n_layers is 1"):
        opened(folder)
    rewrite(folder / GLORIA_FILE)
    assert BOTH in opened(folder).tensors


class _Attack:
    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._trace}",)


def test_nothing_in_the_file_runs(folder: Path, tmp_path: Path) -> None:
    rewrite(folder / GLORIA_FILE, hyper_parameters=_Attack(tmp_path / "trace"), callbacks={_Attack: 1})
    assert len(load_models(small("gloria"), opened(folder))) == 2
    assert not (tmp_path / "trace").exists()
    torch.load(folder / GLORIA_FILE, weights_only=False)  # the control: upstream's own way runs it
    assert (tmp_path / "trace").exists()


def test_the_tokenizer_is_the_hub_s_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder.parent / "hub"
    elsewhere.mkdir()
    for name in ("vocab.txt", "config.json"):
        shutil.move(folder / name, elsewhere / name)
    asked: list[tuple[str, str]] = []

    def fetched(repo: str, revision: str, wanted: list[str], note: Any) -> tuple[Path, str]:
        asked.append((repo, revision))
        assert "vocab.txt" in wanted
        return elsewhere, revision

    monkeypatch.setattr(gloria_layout, "download", fetched)
    notes: list[str] = []
    assert opened(folder / GLORIA_FILE, notes=notes).folder == elsewhere
    assert asked == [("emilyalsentzer/Bio_ClinicalBERT", FAMILIES["bio-clinicalbert"].hub.revision)]
    assert any("as GLoRIA takes it" in note for note in notes)

    def unreachable(*_: Any) -> Any:
        raise CheckpointError("The hub cannot be reached.")

    monkeypatch.setattr(gloria_layout, "download", unreachable)
    with pytest.raises(CheckpointError, match=r"cannot be reached\. Or put its vocab\.txt beside the checkpoint"):
        opened(folder)


def test_other_files_are_refused_in_words(folder: Path, tiny: System) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.ones(3)}}, folder / GLORIA_FILE)
    with pytest.raises(CheckpointError, match=r"not those of a 'gloria': tensors named text_encoder\.model\."):
        load_models(small("gloria"), opened(folder))
    torch.save({"state_dict": {"weight": [1, 2]}}, folder / GLORIA_FILE)
    with pytest.raises(CheckpointError, match="weight of its state dict are no tensors"):
        opened(folder)
    torch.save([1], folder / GLORIA_FILE)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        opened(folder)
    (folder / GLORIA_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"Missing: \*\.ckpt|looks like"):
        opened(folder)


def test_what_is_expected_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected GLoRIA's file \(chexpert_resnet50\.ckpt\) or the folder"):
        open_checkpoint(str(tmp_path / "nothing.ckpt"), small("gloria"), tmp_path)
    with pytest.raises(CheckpointError, match=r"expected a folder with model\.safetensors, config\.json and"):
        open_checkpoint(str(tmp_path / "nothing"), small("convirt"), tmp_path)
    for name in ("convirt", "clip", "biovil"):
        with pytest.raises(CheckpointError, match=r"looks like (a checkpoint of )?'gloria'"):
            open_checkpoint(str(folder), FAMILIES[name], tmp_path)


def test_damaged_weights_are_named(folder: Path) -> None:
    read = read_inert(folder / GLORIA_FILE)
    tensors = read.tensors(read.content["state_dict"])
    tensors["gloria.img_encoder.local_embedder.weight"][0] = torch.nan
    del tensors["gloria.text_encoder.model.encoder.layer.0.output.dense.bias"]
    torch.save({"state_dict": tensors}, folder / GLORIA_FILE)
    with pytest.raises(CheckpointError) as raised:
        load_models(small("gloria"), opened(folder))
    assert "image: not finite  local_embedder.weight" in str(raised.value)
    assert "text: missing     encoder.layer.0.output.dense.bias" in str(raised.value)


def test_convirt_s_layout(convirt_folder: Path, tmp_path: Path) -> None:
    given = Path(shutil.copytree(convirt_folder, tmp_path / "given"))
    (given / "random_weights.json").unlink()
    tensors = load_file(given / "model.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {
        "text_encoder", "text_projection", "image_encoder", "image_projection",
    }  # fmt: skip
    assert tensors["text_projection.2.weight"].shape == (SIZE, CONFIG["hidden_size"])
    assert tensors["image_projection.0.weight"].shape == (2048, 2048)
    assert set(load_models(small("convirt"), opened(given, "convirt"))) == {"text", "image"}
    with pytest.raises(CheckpointError, match="looks like 'convirt'"):
        opened(given, "gloria")
    with pytest.raises(CheckpointError, match="looks like 'gloria'"):
        open_checkpoint(str(_gloria_only(tmp_path)), small("convirt"), tmp_path / "work")
    del tensors["image_projection.0.bias"]
    save_file(tensors, given / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"image: missing     projection\.0\.bias \(2048,\)"):
        load_models(small("convirt"), opened(given, "convirt"))


def _gloria_only(tmp_path: Path) -> Path:
    folder = tmp_path / "only"
    folder.mkdir()
    torch.save({"state_dict": {"a": torch.ones(1)}}, folder / GLORIA_FILE)
    return folder


@pytest.mark.slow
def test_from_reports_and_films_to_gloria_s_own_embeddings(gloria_folder: Path, tmp_path: Path) -> None:
    """Nothing of this project on the other side: its cleaning and resizing written out, transformers' tokenizer, its
    modules line by line."""
    family = small("gloria")
    manifest = export_bundle(family, str(gloria_folder), tmp_path / "bundle")
    assert manifest.image.grid == 19
    assert manifest.text.pooling == "layers"
    assert [each.role for each in manifest.text.artifacts] == ["embedding", "packed_embedding", "words"]
    assert manifest.text.artifacts[2].external_data == manifest.text.artifacts[0].external_data
    read = read_inert(gloria_folder / GLORIA_FILE)
    state = {name.removeprefix("gloria."): each for name, each in read.tensors(read.content["state_dict"]).items()}
    tokenizer = BertTokenizer.from_pretrained(str(gloria_folder))
    text = BertEncoder(BertModel(bert_config(sizes_of(CONFIG))), tokenizer.get_vocab()).eval()
    text.load_state_dict({n.removeprefix("text_encoder."): t for n, t in state.items() if n.startswith("text_")})
    image = ImageEncoder(SIZE, (1, 1, 1, 1)).eval()
    image.load_state_dict({n.removeprefix("img_encoder."): t for n, t in state.items() if n.startswith("img_")})
    given = tokenizer(
        [as_gloria(each) for each in REPORTS], truncation=True, padding="max_length", max_length=97, return_tensors="pt"
    )
    films = [chest_phantom(300, 411, 1), chest_phantom(150, 90, 2), chest_phantom(512, 512, 3)]
    crops = np.stack([opencv.resize_as_gloria(film, 256)[16:240, 16:240] for film in films])
    channels = (torch.from_numpy(crops).float().div(255)[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5
    with torch.no_grad():
        words, sent, names = text(given["input_ids"], given["attention_mask"], given["token_type_ids"])
        overall, local = image(channels)
    for provider in ("cpu", "openvino"):
        engine = runtime.load(tmp_path / "bundle", provider=provider)
        found = engine.text.encode(REPORTS, normalize=False)
        assert np.abs(found - sent.numpy()).max() < 1e-5 * sent.abs().max()
        assert found[4] == pytest.approx(engine.text.encode("", normalize=False)[0], abs=1e-6), "one word: none is left"
        images = torch.nn.functional.normalize(overall, dim=-1).numpy()
        assert np.abs(engine.image.encode(films) - images).max() < 1e-5
        patches = torch.nn.functional.normalize(local, dim=1).permute(0, 2, 3, 1).numpy()
        assert np.abs(engine.image.encode_patches(films) - patches).max() < 1e-5
        assert (images @ images.T).min() < 0.9
        by_labels = engine.classify(films[0], ["Pneumonia", "Edema"])
        assert by_labels["Pneumonia"] != pytest.approx(by_labels["Edema"], abs=1e-6), "each is said in several words"
        probabilities = engine.classify(films[0], {"a": ["no effusion"], "b": ["severe edema"]})
        cosines = torch.nn.functional.cosine_similarity(
            overall[:1], text(*(_encoded(tokenizer, ["no effusion", "severe edema"])))[1]
        )
        expected = torch.softmax(10 * cosines, 0).tolist()
        assert [probabilities["a"], probabilities["b"]] == pytest.approx(expected, abs=1e-5)
        _compare_words(engine, films, words, names, sent, overall, local)


def _compare_words(
    engine: runtime.Engine,
    films: list[np.ndarray],
    words: torch.Tensor,
    names: list[list[str]],
    sent: torch.Tensor,
    overall: torch.Tensor,
    local: torch.Tensor,
) -> None:
    """Against `aggregate_tokens`, `get_attn_maps` and `get_similarities`."""
    scale = float(words.abs().max())
    for index, each in enumerate(engine.text.encode_words(REPORTS)):
        assert ["[CLS]", *each.words, "[SEP]"] == [name for name in names[index] if name != "[PAD]"]
        assert np.abs(each.embeds - words[index].T[: len(each.embeds)].numpy()).max() < 1e-5 * scale
    read = [0, 1, 2, 3]
    for film, region in zip(films, local, strict=True):
        maps = attention_maps(region[None].repeat(4, 1, 1, 1), words[read], [names[index] for index in read])
        grounded = engine.ground_phrases(film, [REPORTS[index] for index in read])
        for found, expected in zip(grounded, maps, strict=True):
            assert np.abs(found.patches - expected[1:].mean(0).numpy()).max() < 1e-5
            assert found.similarity_map.shape == film.shape
            assert found.patches.sum() == pytest.approx(1, abs=1e-4)
    short = [0, 1, 2]  # GLoRIA fails where a text has more than 96 characters
    counts = [len([each for each in REPORTS[index] if not each.startswith("[")]) for index in short]
    assert max(counts) <= 96
    terms = get_local_similarities(local, words[short], counts)
    cosines = torch.nn.functional.cosine_similarity(overall[:, None], sent[None, short], dim=-1)
    for row, film in enumerate(films):
        given = [REPORTS[index] for index in short]
        assert engine.word_similarities(film, given, "local") == pytest.approx(terms[row].numpy(), abs=2e-5)
        assert engine.word_similarities(film, given, "global") == pytest.approx(cosines[row].numpy(), abs=1e-5)
        expected = ((terms + cosines) / 2)[row].numpy()
        assert engine.word_similarities(film, given) == pytest.approx(expected, abs=2e-5)
    assert engine.ground(films[0], "severe edema").score == pytest.approx(
        engine.similarity(films[0], "severe edema"), abs=1e-6
    )
    with pytest.raises(runtime.InputError, match="Nothing of 'Pneumonia' is read"):
        engine.ground(films[0], "Pneumonia")
    assert pickle.loads(pickle.dumps(engine)).text.encode_words(["no edema"])[0].words == ("no", "edema")


def _encoded(tokenizer: BertTokenizer, texts: list[str]) -> tuple[torch.Tensor, ...]:
    given = tokenizer(texts, truncation=True, padding="max_length", max_length=97, return_tensors="pt")
    return given["input_ids"], given["attention_mask"], given["token_type_ids"]


@pytest.mark.slow
def test_convirt_exported_and_embedded(convirt_folder: Path, tmp_path: Path) -> None:
    export_bundle(small("convirt"), str(convirt_folder), tmp_path / "bundle")
    tensors = load_file(convirt_folder / "model.safetensors")
    model = BertModel(bert_config(sizes_of(CONFIG)), add_pooling_layer=False).eval()
    model.load_state_dict(
        {n.removeprefix("text_encoder."): t for n, t in tensors.items() if n.startswith("text_encoder.")}
    )
    tokenizer = BertTokenizer.from_pretrained(str(convirt_folder))
    engine = runtime.load(tmp_path / "bundle", provider="cpu")
    for text in ("No pleural effusion.", "Severe edema"):
        with torch.no_grad():
            largest = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].max(0).values
            hidden = torch.relu(tensors["text_projection.0.weight"] @ largest + tensors["text_projection.0.bias"])
            expected = tensors["text_projection.2.weight"] @ hidden + tensors["text_projection.2.bias"]
        found = engine.text.encode(text, normalize=False)[0]
        assert np.abs(found - expected.numpy()).max() < 1e-5 * expected.abs().max()
    assert engine.image.encode([chest_phantom(300, 411, 1)]).shape == (1, SIZE)
    with pytest.raises(runtime.BundleError, match="embeds no patches"):
        engine.image.encode_patches([chest_phantom(300, 411, 1)])
    with pytest.raises(runtime.BundleError, match="words do not attend to regions"):
        engine.word_similarities(chest_phantom(300, 411, 1), "no edema")
    with pytest.raises(runtime.BundleError, match="embeds whole texts, not their words"):
        engine.text.encode_words(["no edema"])
