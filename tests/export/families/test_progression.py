"""Progression by BioViL-T, from a checkpoint to probabilities: hi-ml's own models of images and texts say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import BertTokenizer

import runtime
from export.build import export_bundle
from export.checkpoints import open_checkpoint
from export.checkpoints.models import load_models
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.families import FAMILIES
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.tasks.progression import CHANGES
from tests.conftest import tiny_config
from tests.export.families.test_biovil_t import TINY, upstream

pytestmark = pytest.mark.slow


def test_a_finding_changes_as_hi_mls_models_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", TINY, 5, tiny_config())
    export_bundle(TINY, str(checkpoint), tmp_path / "bundle")
    films = [tmp_path / f"{number}.png" for number in range(4)]
    for number, film in enumerate(films):
        Image.fromarray(chest_phantom(600 + 50 * number, 700 - 40 * number, number)).save(film)
    current, previous = films[:2], films[2:]

    texts = replace(TINY, image=None, joint=None)
    model = load_models(texts, open_checkpoint(str(checkpoint), texts, tmp_path / "work"))["text"].model
    prompts = [template.replace("{}", "pleural effusion") for templates in CHANGES.values() for template in templates]
    tokens = BertTokenizer.from_pretrained(checkpoint)(prompts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        text_embeds = F.normalize(model.get_projected_text_embeddings(tokens.input_ids, tokens.attention_mask), dim=1)
    images = torch.from_numpy(upstream(checkpoint, current, previous)[0])
    expected = (images @ text_embeds.T).softmax(-1).numpy()

    engine = runtime.load(tmp_path / "bundle", provider="cpu", precision="fp32")
    found = engine.progression(current, previous, "pleural effusion")
    assert [list(each) for each in found] == [list(CHANGES)] * 2
    assert np.array([list(each.values()) for each in found]) == pytest.approx(expected, abs=1e-5)
    alone = (torch.from_numpy(upstream(checkpoint, current)[0]) @ text_embeds.T).softmax(-1).numpy()
    assert np.abs(alone - expected).max() > 1e-4, "the previous image counts"
    command = ["progression", str(tmp_path / "bundle"), str(films[0]), str(films[2]), "pleural effusion"]
    assert main([*command, "--provider", "cpu", "--precision", "fp32"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"pleural effusion  improving {expected[0, 0]:.3f}")
    assert FAMILIES["biovil-t"].joint == TINY.joint
