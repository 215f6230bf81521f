"""Which checkpoint belongs to a bundle: a folder, or the one file that some systems have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.peers.references import check_weights
from bench.quality.ms_cxr_torch import torch_maps
from runtime.bundle.parts import Joint, WordAttention
from runtime.errors import InputError


def manifest_of(**weights: bytes) -> Any:
    digests = {f"{name}.pt": hashlib.sha256(content).hexdigest() for name, content in weights.items()}
    return SimpleNamespace(source=SimpleNamespace(weights=digests))


def test_the_weights_decide(tmp_path: Path) -> None:
    manifest = manifest_of(text=b"one", image=b"two")
    (tmp_path / "text.pt").write_bytes(b"one")
    check_weights(manifest, tmp_path)  # the other part is not needed
    (tmp_path / "image.pt").write_bytes(b"three")
    with pytest.raises(InputError, match=r"does not hold the weights .* \(image\.pt\); with others nothing"):
        check_weights(manifest, tmp_path)
    with pytest.raises(InputError, match=r"\(text\.pt, image\.pt\)"):
        check_weights(manifest, tmp_path / "nowhere")


def test_a_checkpoint_may_be_one_file(tmp_path: Path) -> None:
    manifest = manifest_of(gloria=b"one")
    for name, content in (("gloria.pt", b"one"), ("other.pt", b"one")):
        (tmp_path / name).write_bytes(content)
    check_weights(manifest, tmp_path / "gloria.pt")
    check_weights(manifest, tmp_path)
    with pytest.raises(InputError, match=r"other\.pt does not hold the weights"):
        check_weights(manifest, tmp_path / "other.pt")
    (tmp_path / "gloria.pt").write_bytes(b"two")
    with pytest.raises(InputError, match=r"gloria\.pt does not hold the weights"):
        check_weights(manifest, tmp_path / "gloria.pt")


def test_maps_of_attention_are_not_compared_with_cosines(tmp_path: Path) -> None:
    joint = Joint(16, 10.0, 0.0, "softmax", (), WordAttention(temperature=4.0, sharpness=5.0))
    engine: Any = SimpleNamespace(manifest=SimpleNamespace(joint=joint))
    with pytest.raises(InputError, match=r"the attention of a phrase's words, .* Leave --checkpoint out"):
        torch_maps(engine, tmp_path, ["edema"], 1)
