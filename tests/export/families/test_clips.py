"""CLIP-likes: each from its hub's layout to embeddings and scores that upstream's own classes give as well."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

import runtime
from export.build import export_bundle
from export.cards import CARDS
from export.checkpoints import open_checkpoint
from export.checkpoints.models import load_models
from export.checkpoints.random_checkpoint import CXR_BERT_CONFIG, write_random_checkpoint
from export.checkpoints.random_clip import clip_config
from export.errors import CheckpointError, GateError
from export.families import FAMILIES
from export.reference import build_image_model, untrained_open_clip, untrained_text, untrained_transformers_clip
from export.samples import SENTENCES
from runtime.bundle import EMBEDDING, PACKED, PATCHES, Manifest, open_bundle
from tests.conftest import edit_json
from tests.export.families.clips import (
    SIZE,
    biomedclip_model,
    tiny_clip_config,
    write_biomedclip,
    write_clip,
    write_open_clip,
)

TEXTS = [*SENTENCES[:6], "a photo of a cat", "", "No Pneumothorax!", "left effusion " * 60]
# Row without sizes of its own, so that small checkpoints fit it.
BIOMEDCLIP = replace(FAMILIES["biomedclip"], hub=None)


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    found = []
    for width, height in ((90, 70), (70, 99), (301, 200)):
        small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        found.append(small.resize((width, height), Image.Resampling.BICUBIC))
    return found


def unit(values: torch.Tensor) -> NDArray[np.float32]:
    return torch.nn.functional.normalize(values, dim=-1).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Manifest]:
    """A CLIP in transformers' layout, and its bundle."""
    folder = tmp_path_factory.mktemp("clip")
    checkpoint = write_clip(folder / "checkpoint")
    manifest = export_bundle(FAMILIES["clip"], str(checkpoint), folder / "bundle")
    return checkpoint, folder / "bundle", manifest


@pytest.mark.slow
def test_a_clip_of_transformers_from_texts_and_pictures(exported: tuple[Path, Path, Manifest]) -> None:
    checkpoint, bundle, _ = exported
    model, tokenizer = CLIPModel.from_pretrained(checkpoint).eval(), CLIPTokenizer.from_pretrained(checkpoint)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    pixels = CLIPImageProcessorPil.from_pretrained(checkpoint)(pictures(), return_tensors="pt")
    with torch.no_grad():
        whole = model(**tokens, **pixels)
    for provider in ("cpu", "openvino"):
        engine = runtime.load(bundle, provider=provider, precision="fp32")
        texts, images = engine.text.encode(TEXTS), engine.image.encode(pictures())
        assert np.abs(texts - unit(whole.text_embeds)).max() < 1e-5
        assert np.abs(images - unit(whole.image_embeds)).max() < 1e-5
        joint = engine.manifest.joint
        logits = joint.logit_scale * images @ texts.T + joint.logit_bias
        assert np.abs(logits - whole.logits_per_image.numpy()).max() < 1e-4
        patches = engine.image.encode_patches(pictures())
        states = model.vision_model(**pixels).last_hidden_state[:, 1:]
        expected = unit(model.visual_projection(model.vision_model.post_layernorm(states)).detach())
        assert np.abs(patches.reshape(3, 4, SIZE) - expected).max() < 1e-5


@pytest.mark.slow
def test_what_the_manifest_says_of_it(exported: tuple[Path, Path, Manifest]) -> None:
    _, _, manifest = exported
    assert (manifest.text.architecture, manifest.text.attention, manifest.text.pooling) == ("clip", "causal", "eos")
    assert (manifest.text.tokenization.tokenizer, manifest.text.tokenization.too_long) == ("bpe", "cut")
    assert {each.role for each in manifest.text.artifacts} == {EMBEDDING, PACKED}
    assert (manifest.image.architecture, manifest.image.grid, manifest.image.embedding_size) == ("vit", 2, SIZE)
    assert {each.role for each in manifest.image.artifacts} == {EMBEDDING, PATCHES}
    assert manifest.joint.score == "softmax"
    assert manifest.joint.logit_scale == pytest.approx(math.exp(3.2), rel=1e-6)


@pytest.mark.slow
def test_the_folders_open_in_transformers(exported: tuple[Path, Path, Manifest]) -> None:
    checkpoint, bundle, _ = exported
    expected = CLIPTokenizer.from_pretrained(checkpoint)(TEXTS)["input_ids"]
    assert AutoTokenizer.from_pretrained(bundle / "text")(TEXTS)["input_ids"] == expected


@pytest.mark.slow
def test_a_model_of_open_clip_with_a_bert_and_timms_vit(tmp_path: Path) -> None:
    checkpoint = write_biomedclip(tmp_path / "checkpoint")
    manifest = export_bundle(BIOMEDCLIP, str(checkpoint), tmp_path / "bundle")
    assert (manifest.text.architecture, manifest.text.pooling, manifest.text.projection) == ("bert", "cls", "mlp")
    config = json.loads((checkpoint / "open_clip_config.json").read_text())
    model = biomedclip_model(config)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(checkpoint), context_length=48)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(224, **config["preprocess_cfg"]), is_train=False
    )
    with torch.no_grad():
        texts = model.encode_text(tokenizer(TEXTS))
        images = model.encode_image(torch.stack([transform(each) for each in pictures()]))
    engine = runtime.load(tmp_path / "bundle", provider="cpu", precision="fp32")
    assert np.abs(engine.text.encode(TEXTS) - unit(texts)).max() < 1e-5
    assert np.abs(engine.image.encode(pictures()) - unit(images)).max() < 1e-5
    assert engine.image.encode_patches(pictures()[0]).shape == (1, 14, 14, 512)


@pytest.mark.slow
def test_a_clip_of_open_clip(tmp_path: Path) -> None:
    checkpoint = write_open_clip(tmp_path / "checkpoint")
    export_bundle(FAMILIES["clip"], str(checkpoint), tmp_path / "bundle")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
    with torch.no_grad():
        texts = model.eval().encode_text(tokenizer(TEXTS))
        images = model.encode_image(torch.stack([transform(each) for each in pictures()]))
    engine = runtime.load(tmp_path / "bundle", provider="cpu", precision="fp32")
    assert np.abs(engine.text.encode(TEXTS) - unit(texts)).max() < 1e-5
    assert np.abs(engine.image.encode(pictures()) - unit(images)).max() < 1e-5


@pytest.mark.slow
def test_weights_that_were_tampered_with_do_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.graphs.vit import VitGraph

    def broken(self: VitGraph, reference: object) -> None:
        original(self, reference)
        self.blocks[0].fc1 = copy.deepcopy(self.blocks[0].fc1)
        self.blocks[0].fc1.weight.data[0] *= 1.01

    original = VitGraph.__init__
    monkeypatch.setattr(VitGraph, "__init__", broken)
    family = replace(FAMILIES["clip"])
    with pytest.raises(GateError, match="image fp32"):
        export_bundle(family, str(write_clip(tmp_path / "checkpoint")), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("clip-vit-base-patch32", 151_277_313),
        ("clip-vit-base-patch16", 149_620_737),
        ("clip-vit-large-patch14", 427_616_513),
    ],
)
def test_openais_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = untrained_transformers_clip(clip_config(FAMILIES[name].image.patch))
    assert sum(each.numel() for each in model.parameters()) == parameters
    assert CARDS[name].parameters == round(parameters / 1e6)
    assert model.config.projection_dim == FAMILIES[name].image.embedding_size


def test_biomedclips_size_and_configuration(tmp_path: Path) -> None:
    from export.checkpoints.layouts.open_clip import bert_config
    from export.checkpoints.random_clip import BIOMEDCLIP_CONFIG

    written = json.dumps(dict(BIOMEDCLIP_CONFIG), indent=2)
    assert len(written) == 707, "the published file has 707 bytes"
    with torch.device("meta"):
        config = BIOMEDCLIP_CONFIG["model_cfg"]
        model = untrained_open_clip(config, bert_config(tmp_path / "open_clip_config.json", config["text_cfg"]))
    assert sum(each.numel() for each in model.parameters()) == 195_902_721
    assert len([*model.parameters()]) == 351, "352 tensors, position_ids among them"
    assert CARDS["biomedclip"].parameters == 196


@pytest.mark.parametrize(
    "name", ["biovil", "biovil-image", "cxr-bert-specialized", "cxr-bert-general", "bio-clinicalbert"]
)
def test_sizes_on_cards_are_those_of_the_networks(name: str) -> None:
    """Of CXR-BERT's size, Bio_ClinicalBERT with its smaller vocabulary."""
    family, count = FAMILIES[name], 0
    config = {**CXR_BERT_CONFIG, **({"vocab_size": 28996} if name == "bio-clinicalbert" else {})}
    with torch.device("meta"):
        if family.text:
            count += sum(each.numel() for each in untrained_text(config, family.text.projection).parameters())
        if family.image:
            named = build_image_model(family.image).named_parameters()
            count += sum(each.numel() for key, each in named if not key.startswith(family.image.harmless))
    assert CARDS[name].parameters == round(count / 1e6)


def test_every_family_has_a_card() -> None:
    assert CARDS.keys() == FAMILIES.keys()


def test_weights_in_a_pickle_and_the_other_activation(tmp_path: Path) -> None:
    checkpoint = write_clip(tmp_path / "checkpoint", activation="gelu", safetensors=False)
    opened = open_checkpoint(str(checkpoint), FAMILIES["clip"], tmp_path / "work")
    assert opened.text_config["hidden_act"] == "gelu"
    models = load_models(FAMILIES["clip"], opened)
    expected = CLIPModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
    ids = torch.tensor([[998, 4, 7, 999]])
    with torch.no_grad():
        text = expected.get_text_features(input_ids=ids)
    found = models["text"].embed(ids, torch.ones_like(ids))
    assert (found - getattr(text, "pooler_output", text)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("family", "fault"),
    [
        ("biovil", "holds no 'biovil' checkpoint: it looks like 'clip' "),
        ("bert", "holds no 'bert' checkpoint: it looks like 'clip' "),
        (
            "clip-vit-base-patch32",
            "has patches of 32 pixels and embeddings of 32 values.*It looks like a checkpoint of 'clip'",
        ),
        ("biomedclip", "describes a CLIP, which 'biomedclip' is not. It looks like a checkpoint of 'clip'"),
    ],
)
def test_a_clip_given_to_another_family(tmp_path: Path, family: str, fault: str) -> None:
    checkpoint = write_clip(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=fault):
        open_checkpoint(str(checkpoint), FAMILIES[family], tmp_path / "work")


@pytest.mark.parametrize("family", ["clip", "biomedclip", "clip-vit-base-patch16"])
def test_a_bert_given_to_a_clip(tmp_path: Path, tiny_checkpoint: Path, family: str) -> None:
    with pytest.raises(CheckpointError, match=f"holds no '{family}' checkpoint: it looks like 'biovil'"):
        open_checkpoint(str(tiny_checkpoint), FAMILIES[family], tmp_path)


def test_openais_other_sizes_are_named(tmp_path: Path) -> None:
    config = clip_config(16)
    config["text_config"]["num_hidden_layers"] = config["vision_config"]["num_hidden_layers"] = 1
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", FAMILIES["clip-vit-base-patch16"], 0, config)
    with pytest.raises(CheckpointError, match="It looks like a checkpoint of 'clip-vit-base-patch16'"):
        open_checkpoint(str(checkpoint), FAMILIES["clip-vit-base-patch32"], tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c["vision_cfg"].update(timm_model_name="vit_bass_patch16_224"), "Did you mean vit_base_patch16_224"),
        (lambda c: c["text_cfg"].update(hf_model_name="microsoft/BiomedBERT"), "is not known here.*Known are"),
        (lambda c: c["text_cfg"].update(hf_pooler_type="max_pooler"), "cls_last_hidden_state_pooler or mean_pooler"),
        (lambda c: c.update(multimodal_cfg={"width": 4}), "CoCa"),
        (lambda c: c.update(vision_cfg={"layers": [3, 4, 6, 3], "width": 64}), "ResNets are not exported"),
        (lambda c: c["vision_cfg"].update(timm_pool="avg"), "timm_pool='avg'"),
        (lambda c: c.update(embed_dim="wide"), "embed_dim='wide'"),
    ],
)
def test_configurations_that_are_not_exported(tmp_path: Path, change: object, fault: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    write_biomedclip(checkpoint)
    edit_json(checkpoint / "open_clip_config.json", lambda config: change(config["model_cfg"]))
    with pytest.raises(CheckpointError, match=fault):
        open_checkpoint(str(checkpoint), BIOMEDCLIP, tmp_path / "work")


@pytest.mark.parametrize(
    ("file", "change", "fault"),
    [
        ("config.json", lambda c: c["text_config"].update(hidden_act="relu"), "hidden_act='relu'"),
        ("config.json", lambda c: c["vision_config"].update(num_channels=1), "num_channels=1"),
        ("config.json", lambda c: c["text_config"].update(hidden_size="64"), "text_config.hidden_size='64'"),
        ("config.json", lambda c: c.update(quantization_config={}, projection_dim=2.5), "projection_dim=2.5"),
        ("preprocessor_config.json", lambda c: c.update(do_normalize=False), "do_normalize=False"),
        ("preprocessor_config.json", lambda c: c.update(resample=5), "resample=5"),
        ("preprocessor_config.json", lambda c: c.update(size=32), "would be padded"),
        ("preprocessor_config.json", lambda c: c.update(image_std=[0, 1, 1]), "image_std"),
        ("preprocessor_config.json", lambda c: c.update(crop_size=96, size=96), "cut to 96 × 96 pixels"),
    ],
)
def test_files_of_transformers_that_are_not_exported(tmp_path: Path, file: str, change: object, fault: str) -> None:
    checkpoint = write_clip(tmp_path / "checkpoint")
    edit_json(checkpoint / file, change)
    with pytest.raises(CheckpointError, match=fault):
        open_checkpoint(str(checkpoint), FAMILIES["clip"], tmp_path / "work")


def test_the_older_form_of_the_towers_overrides(tmp_path: Path) -> None:
    """`text_config_dict`, as in the published files of 2022, counts more than `text_config`."""
    from export.checkpoints.layouts.transformers_clip import towers

    config = {**tiny_clip_config(), "text_config_dict": {"num_hidden_layers": 5}}
    assert towers(config)[0]["num_hidden_layers"] == 5
    assert CLIPConfig(**config).text_config.num_hidden_layers == 5


def test_without_a_logit_scale(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint = write_clip(tmp_path / "checkpoint")
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["logit_scale"]
    save_file(tensors, checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match="no logit_scale"):
        open_checkpoint(str(checkpoint), FAMILIES["clip"], tmp_path / "work")


@pytest.mark.slow
def test_the_bundle_opens_again(exported: tuple[Path, Path, Manifest]) -> None:
    _, bundle, manifest = exported
    assert open_bundle(bundle).manifest == manifest
