"""What people give as a checkpoint where it is none: one line says what it is and what to give instead."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.checkpoints import open_checkpoint
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.errors import CheckpointError
from tests.conftest import ROOT, System, edit_json, tiny_config, tiny_family

REPO = "microsoft/BiomedVLP-CXR-BERT-specialized"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("places") / "c", tiny_family(), 7, tiny_config())


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


def refusal(source: str, work: Path, name: str = "biovil") -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(source, tiny_family(name), work)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        (f"https://huggingface.co/{REPO}", f"--checkpoint {REPO}$"),
        (f"https://huggingface.co/{REPO}/", f"--checkpoint {REPO}$"),
        (f"https://huggingface.co/{REPO}/tree/main", f"--checkpoint {REPO}$"),
        (f"https://huggingface.co/{REPO}/tree/v1.0", rf"--checkpoint {REPO} --revision v1\.0$"),
        (f"https://huggingface.co/{REPO}/resolve/v1.1/pytorch_model.bin?download=true", r"--revision v1\.1$"),
        (f"http://hf.co/{REPO}", f"--checkpoint {REPO}$"),
        (f"huggingface.co/{REPO}", f"--checkpoint {REPO}$"),
        (f"hf://{REPO}", f"--checkpoint {REPO}$"),
        (f"git@hf.co:{REPO}.git", f"--checkpoint {REPO}$"),
        (f"https://huggingface.co/{REPO}.git", f"--checkpoint {REPO}$"),
        ("https://example.org/checkpoint.tar.gz", "It is an address: download"),
        ("s3://bucket/checkpoint", "It is an address: download"),
        ("C:\\Users\\me\\checkpoint", "It is a Windows path.*/mnt/c/Users/me/checkpoint"),
        ("D:/models/cxr", "It is a Windows path.*/mnt/d/models/cxr"),
        ("models\\cxr-bert", "It is a Windows path"),
        (f" {REPO}", f"Did you mean {REPO}"),
        (f"{REPO} ", f"Did you mean {REPO}"),
        (f"'{REPO}'", f"Did you mean {REPO}"),
        ("microsoft/BiomedVLP CXR-BERT specialized", f"Did you mean {REPO}"),
        ("microsoft / BiomedVLP-CXR-BERT-specialized", f"Did you mean {REPO}"),
        ("BiomedVLP-CXR-BERT-specialized", f"Did you mean {REPO}"),
        ("biomedvlp-cxr-bert-general", "Did you mean microsoft/BiomedVLP-CXR-BERT-general"),
        ("models/cxr/bert", "There is no such file or folder"),
        ("", "is no checkpoint"),
        ("a\0b", "is no checkpoint"),
        ("Random", "is no checkpoint"),
    ],
)
def test_sources_that_are_no_checkpoint(source: str, hint: str, tmp_path: Path) -> None:
    message = refusal(source, tmp_path)
    assert message.startswith(f"{source!r} is no checkpoint: expected a folder in the hub's layout")
    assert re.search(hint, message), message


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert "cannot be read: File name too long" in refusal("a" * 5000, tmp_path)


def test_a_home_folder_s_sign_is_expanded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_checkpoint("~/checkpoint", tiny_family(), tmp_path).folder == folder


@pytest.mark.slow
def test_a_file_instead_of_a_folder(folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "config.json"):
        assert f"It is a file. Give its folder: {folder}" in refusal(str(folder / name), tmp_path)
    archive = shutil.make_archive(str(tmp_path / "packed"), "gztar", folder)
    assert "a gzip archive. Unpack it, and give the folder that holds config.json" in refusal(archive, tmp_path)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    assert "a zip archive of files" in refusal(archive, tmp_path)


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "a link to" in refusal(str(tmp_path / "link"), tmp_path)


def test_a_path_with_spaces_around_it(folder: Path, tmp_path: Path) -> None:
    assert f"Did you mean '{folder}', without the spaces" in refusal(f"{folder} ", tmp_path)


def test_a_bundle(tiny: System, tmp_path: Path) -> None:
    message = refusal(str(tiny.bundle), tmp_path)
    assert "is a bundle that was exported already" in message
    assert "sentence-transformers" in refusal(str(tiny.bundle / "text"), tmp_path, "cxr-bert-specialized")


def test_an_adapter(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": REPO, "peft_type": "LORA"}))
    for file in ("pytorch_model.bin", "config.json"):
        message = refusal(str(folder), tmp_path)
        assert f"LoRA or PEFT adapter, which changes another model's weights ({REPO})" in message
        assert "merge_and_unload().save_pretrained(NEW)" in message
        (folder / file).unlink()


@pytest.mark.parametrize(
    ("name", "what", "advice"),
    [
        ("tf_model.h5", "TensorFlow weights", "from_tf=True"),
        ("model.ckpt-1000.data-00000-of-00001", "a TensorFlow checkpoint", "from_tf=True"),
        ("bert_model.ckpt.index", "a TensorFlow checkpoint", "from_tf=True"),
        ("flax_model.msgpack", "Flax weights", "from_flax=True"),
        ("model.onnx", "an ONNX graph", "PyTorch checkpoint"),
        ("model-q4.gguf", "GGUF", "PyTorch checkpoint"),
        ("openvino_model.xml", "OpenVINO", "PyTorch checkpoint"),
        ("zero_to_fp32.py", "distributed training", "zero_to_fp32.py ."),
        ("__0_0.distcp", "distributed training", "merge-weights"),
        ("model.safetensors.incomplete", "an unfinished download", "Fetch the file again"),
        ("pytorch_model.bin.crdownload", "an unfinished download", "Fetch the file again"),
        ("last.ckpt", r"last\.ckpt: a file of weights with another name", "named as expected"),
        ("pytorch_model (1).bin", "a file of weights with another name", "named as expected"),
    ],
)
def test_folders_with_weights_of_other_tools(folder: Path, tmp_path: Path, name: str, what: str, advice: str) -> None:
    (folder / "pytorch_model.bin").rename(folder / name)
    message = refusal(str(folder), tmp_path, "cxr-bert-specialized")
    assert "Missing: model.safetensors or pytorch_model.bin" in message
    assert re.search(what, message), message
    assert advice in message


def test_a_folder_around_the_checkpoint(folder: Path, tmp_path: Path) -> None:
    assert f"The checkpoint may be deeper: {folder}" in refusal(str(folder.parent), tmp_path)
    snapshot = tmp_path / "cache" / "models--a--b" / "snapshots" / "0123"
    shutil.copytree(folder, snapshot)
    assert f"The checkpoint may be deeper: {snapshot}" in refusal(str(snapshot.parent.parent), tmp_path)
    (tmp_path / "empty").mkdir()
    assert "It is empty." in refusal(str(tmp_path / "empty"), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(quantization_config={"quant_method": "gptq"}), r"quantized weights .*method gptq"),
        (lambda c: c.update(quantization_config={"load_in_8bit": True}), r"quantized weights .*method unknown"),
        (lambda c: c.update(is_decoder=True), "describes a decoder"),
        (lambda c: c.update(model_type="vit", architectures=["ViTModel"]), r"type 'vit' \(ViTModel\); 'cxr-bert'"),
        (lambda c: c.update(model_type="roberta", architectures=None), "type 'roberta'; 'cxr-bert' or 'bert'"),
        (lambda c: c.update(pad_token_id=1000), "pad_token_id=1000 is no id of vocab_size=1,000"),
        (lambda c: c.update(pad_token_id="0"), "pad_token_id='0' is no id"),
        (lambda c: c.update(hidden_dropout_prob="0.1"), "usable numbers for: hidden_dropout_prob"),
        (lambda c: c.update(layer_norm_eps=float("nan")), "usable numbers for: layer_norm_eps"),
        (lambda c: c.update(num_hidden_layers=10**9), "usable numbers for: num_hidden_layers"),
        (lambda c: c.update(vocab_size=10**12), "usable numbers for: vocab_size"),
    ],
)
def test_configs_that_cannot_be_exported(
    folder: Path, tmp_path: Path, change: Callable[[dict], None], message: str
) -> None:
    edit_json(folder / "config.json", change)
    assert re.search(message, refusal(str(folder), tmp_path))


def test_a_large_config_takes_no_memory(folder: Path, tmp_path: Path) -> None:
    """Names and shapes are compared before a model is built."""
    from export.checkpoints.models import load_models

    edit_json(folder / "config.json", lambda c: c.update(hidden_size=4_000_000, intermediate_size=9_000_000))
    family = tiny_family("cxr-bert-specialized")
    checkpoint = open_checkpoint(str(folder), family, tmp_path)
    with pytest.raises(CheckpointError, match="tensors wrong shape"):
        load_models(family, checkpoint)


def test_a_marker_of_random_weights_that_is_damaged(folder: Path, tmp_path: Path) -> None:
    (folder / "random_weights.json").write_text('{"seed": "seven"}')
    assert "has no seed" in refusal(str(folder), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("locked", [".", "config.json", "pytorch_model.bin", "vocab.txt", "x"])
def test_what_may_not_be_read(folder: Path, locked: str) -> None:
    """As another user, who may read the rest: an error of the project's own, exit status 1, nothing written."""
    code = (
        "import sys; from pathlib import Path; from tests.conftest import tiny_family\n"
        "from export.checkpoints import open_checkpoint; from export.checkpoints.tokenizer import write_tokenizer\n"
        "from runtime.errors import CxrEngineError\n"
        "try:\n"
        "    c = open_checkpoint(sys.argv[1], tiny_family(), Path(sys.argv[1]))\n"
        "    write_tokenizer(c.folder, c.config, Path(sys.argv[1]))\n"
        "except CxrEngineError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    for parent in (folder.parent, *folder.parent.parents):
        if parent != Path(parent.anchor) and parent.stat().st_uid == os.getuid() and "pytest" in str(parent):
            parent.chmod(0o755)
    folder.chmod(0o644 if locked == "x" else 0o000 if locked == "." else 0o755)
    if locked not in (".", "x"):
        (folder / locked).chmod(0)
    process = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    folder.chmod(0o755)
    if "ModuleNotFoundError" in process.stderr or process.returncode == 127:
        pytest.skip("the other user may not read this environment")
    assert process.stdout.startswith("CheckpointError"), process.stdout + process.stderr
    assert "Permission denied" in process.stdout
