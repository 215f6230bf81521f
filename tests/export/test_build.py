"""A bundle appears whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import runtime
from export import build
from export.build import export_bundle
from export.errors import CheckpointError, DestinationError, GateError
from export.graphs.image_rewrites import ImageEmbeddingGraph
from export.graphs.text_rewrites import TextEmbeddingGraph
from export.parts import image as image_part
from export.parts import text as text_part
from export.proof import image_parity
from export.staging import staged
from tests.conftest import ROOT, System, tiny_family
from tests.runtime.parts import grey_rule


def nothing_left(folder: Path) -> bool:
    return not any(path.name != "checkpoint" for path in folder.iterdir())


def test_the_tiny_bundle_holds_what_the_manifest_says(tiny: System) -> None:
    engine = runtime.load(tiny.bundle, provider="cpu")
    for part in (engine.manifest.text, engine.manifest.image):
        artifact = part.artifacts[0]
        (record,) = artifact.parity
        assert record.provider in ("cpu", "cuda")
        assert all(record.figures[name] <= bound for name, bound in record.gates.items())
        assert set(record.gates) < set(record.figures)
    assert [check.figures["differing"] for check in engine.manifest.checks] == [0.0, 0.0]
    assert engine.manifest.versions["torch"] == torch.__version__.split("+")[0]


def _perturbing(graph: type, name: str):
    """The graph class with one weight changed after it was built from the reference."""

    def make(model, *rule, **options):
        module = graph(model, *rule, **options)
        with torch.no_grad():
            module.get_parameter(name).view(-1)[5] += 0.5
        return module

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attribute", "family", "graph", "name"),
    [
        ("text_graph", "cxr-bert-specialized", TextEmbeddingGraph, "attentions.1.query.weight"),
        ("ImageEmbeddingGraph", "biovil-image", ImageEmbeddingGraph, "blocks.2.convolutions.1.weight"),
    ],
)
def test_one_perturbed_weight_misses_the_gate_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch, attribute: str, family: str, graph: type, name: str
) -> None:
    # The reference must stay as it is, so the graph gets a copy of what it shares with it.
    import copy

    broken = _perturbing(graph, name)
    part = text_part if attribute == "text_graph" else image_part
    monkeypatch.setattr(part, attribute, lambda model, *rule, **options: broken(copy.deepcopy(model), *rule, **options))
    with pytest.raises(GateError, match=r"no bundle was written.\n  .* fp32 on cpu: max_abs"):
        export_bundle(tiny_family(family), str(tiny_checkpoint), tmp_path / "bundle", provider="cpu")
    assert nothing_left(tmp_path)


def test_a_tokenizer_that_differs_misses_the_gate(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    original = build.write_tokenizer

    def cased(checkpoint: Path, config, out: Path, **options):
        written = original(checkpoint, config, out, **options)
        file = out / "tokenizer.json"
        file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))
        return written

    monkeypatch.setattr(build, "write_tokenizer", cased)
    with pytest.raises(GateError, match=r"preprocessing: differing is .*token ids of"):
        export_bundle(tiny_family("cxr-bert-specialized"), str(tiny_checkpoint), tmp_path / "bundle")
    assert nothing_left(tmp_path)


def test_a_crop_off_by_one_misses_the_gate(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    from runtime.image import resizing

    monkeypatch.setattr(resizing, "round", lambda value: round(value) + 1, raising=False)
    with pytest.raises(GateError, match=r"preprocessing: differing is 14, .*pixels of 14 phantoms"):
        export_bundle(tiny_family("biovil-image"), str(tiny_checkpoint), tmp_path / "bundle")
    assert nothing_left(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cxr-bert-specialized", "biovil-image"])
def test_nan_in_the_last_batch_only_misses_the_gate(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch, family: str
) -> None:
    """Python's max() loses NaN unless it comes first."""
    engine = build._comparing_engine("auto")

    class Session:
        def __init__(self, *arguments) -> None:
            self.session = engine.open(*arguments)

        def run(self, outputs, inputs):
            results = self.session.run(outputs, inputs)
            if len(next(iter(inputs.values()))) > 2:
                results = [result * np.nan for result in results]
            return results

    monkeypatch.setattr(build, "_comparing_engine", lambda name: dataclasses.replace(engine, open=Session))
    with pytest.raises(GateError, match="max_abs is nan"):
        export_bundle(tiny_family(family), str(tiny_checkpoint), tmp_path / "bundle")
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_a_wrong_unnormalized_output_misses_the_gate(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    """Only averaging prompts reads it, so nothing else would notice."""

    class Broken(TextEmbeddingGraph):
        def embeddings(self, *states):
            text_embeds, projected = super().embeddings(*states)
            return text_embeds, projected * 1.001

    monkeypatch.setattr(text_part, "text_graph", Broken)
    with pytest.raises(GateError, match=r"max_abs_unnormalized is 0\.001"):
        export_bundle(tiny_family("cxr-bert-specialized"), str(tiny_checkpoint), tmp_path / "bundle")
    assert nothing_left(tmp_path)


def test_tied_weights_that_are_not_tied_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)
    tensors["cls.predictions.decoder.weight"] = tensors["cls.predictions.decoder.weight"] + 1
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"cls.predictions.decoder.weight differs from"):
        export_bundle(tiny_family("cxr-bert-specialized"), str(checkpoint), tmp_path / "bundle")
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_safetensors_give_the_same_bundle(tmp_path: Path, tiny: System) -> None:
    from export.checkpoints.random_checkpoint import write_random_checkpoint
    from tests.conftest import tiny_config

    family = tiny_family("cxr-bert-specialized")
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", family, 7, tiny_config(), safetensors=True)
    export_bundle(family, str(checkpoint), tmp_path / "bundle")
    found = runtime.load(tmp_path / "bundle", provider="cpu").text.encode(["No effusion", "x"])
    expected = runtime.load(tiny.bundle, provider="cpu").text.encode(["No effusion", "x"])
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_existing_places(tiny_checkpoint: Path, tmp_path: Path) -> None:
    family = tiny_family("biovil-image")
    out = tmp_path / "deep" / "bundle"
    export_bundle(family, str(tiny_checkpoint), out)
    with pytest.raises(DestinationError, match=r"already exists.*--force"):
        export_bundle(family, str(tiny_checkpoint), out)
    stale = out / "stale"
    stale.touch()
    export_bundle(family, str(tiny_checkpoint), out, force=True)
    assert not stale.exists()
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter1.txt").write_text("precious")
    with pytest.raises(DestinationError, match="is not a bundle"):
        export_bundle(family, str(tiny_checkpoint), other, force=True)
    assert (other / "chapter1.txt").read_text() == "precious"
    (tmp_path / "file").touch()
    with pytest.raises(DestinationError, match="cannot be written"):
        export_bundle(family, str(tiny_checkpoint), tmp_path / "file" / "bundle")


def test_a_failed_rename_puts_the_old_bundle_back(tiny_copy: Path, monkeypatch) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if ".partial~" in self.name:
            raise OSError("disk trouble")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(DestinationError, match="disk trouble"), staged(tiny_copy, True, print) as stage:
        (stage / "new").touch()
    assert runtime.load(tiny_copy).text.encode("x").shape == (1, 128)
    assert [path.name for path in tiny_copy.parent.iterdir()] == ["bundle"]


def test_who_may_read_the_folder_may_read_its_files(tiny: System, tmp_path: Path) -> None:
    """onnx writes weights with mode 0600; a server in a container is another user."""
    assert {each.stat().st_mode & 0o077 for each in tiny.bundle.rglob("*") if each.is_file()} == {
        tiny.bundle.stat().st_mode & 0o066
    }
    with staged(tmp_path / "bundle", False, print) as stage:
        (stage / "weights").touch(mode=0o600)
    assert (tmp_path / "bundle" / "weights").stat().st_mode & 0o777 == (tmp_path / "bundle").stat().st_mode & 0o666


def test_a_replaced_bundle_without_successor_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / f".bundle.replaced~{socket.gethostname()}~999999999~00000000"
    kept.mkdir()
    with pytest.raises(KeyError), staged(tmp_path / "bundle", False, print):
        raise KeyError
    assert kept.is_dir()


def test_symbolic_links_are_refused_before_the_work(tiny_copy: Path) -> None:
    link = tiny_copy.with_name("current")
    for target in (tiny_copy, tiny_copy.with_name("absent")):
        link.symlink_to(target)
        with pytest.raises(DestinationError, match="is a symbolic link"), staged(link, True, print):
            pass
        link.unlink()


@pytest.mark.slow
def test_a_failed_replacement_keeps_the_old_bundle(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    family = tiny_family("biovil-image")
    out = tmp_path / "bundle"
    export_bundle(family, str(tiny_checkpoint), out)
    monkeypatch.setattr(image_parity, "GATES", {"fp32": {"max_abs": -1.0}})
    with pytest.raises(GateError):
        export_bundle(family, str(tiny_checkpoint), out, force=True)
    assert runtime.load(out).image.encode(np.eye(90)).shape == (1, 128)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


_SLOW_EXPORT = """
import sys, time
from pathlib import Path
from export import build
from tests.conftest import tiny_family
import export.__main__ as cli
from runtime.process import print_result
def hang(*arguments):
    print_result("hanging")
    time.sleep(60)
build.check_gates = hang
cli.FAMILIES = {"biovil": tiny_family()}
import argparse
sys.exit(cli.main(["biovil", "--checkpoint", sys.argv[1], "--out", sys.argv[2]]))
"""


def killed_export(checkpoint: Path, out: Path, number: int) -> int:
    """Start an export in its own process, kill it in the middle, and return its exit status."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_EXPORT, str(checkpoint), str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A suite that runs in the background of a shell inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline().strip() == "hanging"
    time.sleep(0.2)
    process.send_signal(number)
    return process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_export_that_is_stopped_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path, number: int, status: int):
    assert killed_export(tiny_checkpoint, tmp_path / "bundle", number) == status
    assert nothing_left(tmp_path)


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_no_bundle_and_the_next_one_cleans_up(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert killed_export(tiny_checkpoint, tmp_path / "bundle", signal.SIGKILL) == -signal.SIGKILL
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".bundle.partial~")
    with pytest.raises(runtime.BundleError, match="unfinished export"):
        runtime.load(leftover)
    # One that belongs to a running process stays.
    running = tmp_path / f".bundle.partial~{socket.gethostname()}~{os.getppid()}~00000000"
    running.mkdir()
    export_bundle(tiny_family("biovil-image"), str(tiny_checkpoint), tmp_path / "bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == [running.name, "bundle"]


@pytest.mark.slow
def test_another_family_is_one_entry(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A system that is not in the table, with another crop, goes through the same path."""
    family = tiny_family("biovil-image")
    family = replace(family, name="other", image=replace(family.image, preprocessing=grey_rule(80, 64)))
    manifest = export_bundle(family, str(tiny_checkpoint), tmp_path / "bundle")
    assert (manifest.family, manifest.image.grid) == ("other", 2)
    engine = runtime.load(tmp_path / "bundle")
    assert engine.image.encode_patches(np.eye(90)).shape == (1, 2, 2, 128)
