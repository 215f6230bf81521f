"""Files that are not what their names say: each is refused in one line that says what it is and what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from export.checkpoints import open_checkpoint, read_tensors
from export.checkpoints.random_checkpoint import write_random_checkpoint
from export.checkpoints.signatures import PICKLE, SAFETENSORS, TEXT, identify, read_json
from export.checkpoints.tokenizer import write_tokenizer
from export.errors import CheckpointError
from tests.conftest import tiny_config, tiny_family

IMAGE_WEIGHTS = "biovil_image_resnet50_proj_size_128.pt"


def archived(mode: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        entry = tarfile.TarInfo("config.json")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"{}"))
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, weight=np.ones(3))
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


def onnx_graph() -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(
        helper.make_graph([], "graph", [value], [value]), producer_name="pytorch"
    ).SerializeToString()


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "png")
    return stream.getvalue()


def torch_script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), stream)
    return stream.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4" * 64 + b"\nsize 438064459\n"
# Content → words of the error: what it is, what to do.
FOREIGN = {
    "git lfs": (POINTER, "Git LFS pointer", "git lfs pull"),
    "old git lfs": (POINTER.replace(b"git-lfs.github", b"hawser.github"), "Git LFS pointer", "git lfs pull"),
    "git annex": (b"../.git/annex/objects/aa/bb/SHA256E-s1--0.bin\n", "git-annex pointer", "git annex get"),
    "annex file": (b"/annex/objects/SHA256E-s1--0.bin\n", "git-annex pointer", "git annex get"),
    "html": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "an HTML page", "hf download"),
    "html in capitals": (b"\xef\xbb\xbf\r\n <HTML><BODY>503</BODY></HTML>", "an HTML page", "hf download"),
    "commented html": (b"<!-- proxy --><html lang=en>denied</html>", "an HTML page", "hf download"),
    "head alone": (b"<head><meta charset=utf-8></head>", "an HTML page", "hf download"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML page", "hf download"),
    "hub's answer": (b"Invalid username or password.", "error message of a server", "hf download"),
    "missing entry": (b"Entry not found\n", "error message of a server", "hf download"),
    "gated": (b"Access to model microsoft/x is restricted. You must be logged in.", "error message", "log in first"),
    "empty": (b"", "an empty file", "Fetch the file again"),
    "zeros": (b"\0" * 4096, "begin with zeros", "Fetch the file again"),
    "gzip": (gzip.compress(b"weights", mtime=0), "a gzip archive", "Unpack it"),
    "tar": (archived("w"), "a tar archive", "Unpack it"),
    "tar.gz": (archived("w:gz"), "a gzip archive", "Unpack it"),
    "tar.bz2": (archived("w:bz2"), "a bzip2 archive", "Unpack it"),
    "tar.xz": (archived("w:xz"), "an xz archive", "Unpack it"),
    "zip": (zipped("model/config.json", "model/vocab.txt"), r"a zip archive of files \(model/config.json", "Unpack it"),
    "empty zip": (zipped(), "an empty zip archive", "Unpack it"),
    "cut zip": (zipped("archive/data.pkl")[:-30], "damaged or cut short", "compare its size"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7-Zip archive", "Unpack it"),
    "rar": (b"Rar!\x1a\x07\x01\x00", "a RAR archive", "Unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "a Zstandard archive", "Unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\0\0", "TensorFlow or Keras", "from_tf=True"),
    "flax": (b"\x82\xa4bert\x83\xaaembeddings\x80", "Flax weights", "from_flax=True"),
    "gguf": (b"GGUF\x03\0\0\0", "GGUF", "PyTorch checkpoint"),
    "npy": (npy(), "a NumPy array", "PyTorch checkpoint"),
    "npz": (npz(), "NumPy arrays", "PyTorch checkpoint"),
    "onnx": (onnx_graph(), "an ONNX graph", "PyTorch checkpoint"),
    "png": (png(), "an image", "Fetch the file again"),
    "utf-16": ('{"model_type": "bert"}'.encode("utf-16"), "UTF-16", "Save it as UTF-8"),
    "torch script": (torch_script(), "a TorchScript archive", "state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_file_is_and_what_to_do(name: str, tmp_path: Path) -> None:
    content, what, advice = FOREIGN[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=what) as caught:
        identify(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read: it is ")
    assert advice in message
    assert "\n" not in message


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_random_checkpoint(
        tmp_path_factory.mktemp("signatures") / "c", tiny_family(), 7, tiny_config(), safetensors=True
    )
    (folder / "random_weights.json").unlink()
    return folder


def read_all(folder: Path, work: Path) -> None:
    checkpoint = open_checkpoint(str(folder), tiny_family(), work)
    write_tokenizer(checkpoint.folder, checkpoint.config, work)


@pytest.mark.parametrize("content", ["git lfs", "html", "empty", "zip", "hub's answer", "png"])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", IMAGE_WEIGHTS,
     "tokenizer.json", "added_tokens.json", "pytorch_model.bin", "model.safetensors.index.json"],
)  # fmt: skip
def test_every_file_that_is_read_is_looked_at(whole: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for file in whole.iterdir():
        if not (name in ("pytorch_model.bin", "model.safetensors.index.json") and file.name == "model.safetensors"):
            os.link(file, folder / file.name)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(FOREIGN[content][0])
    with pytest.raises(CheckpointError, match=FOREIGN[content][1]) as caught:
        read_all(folder, tmp_path)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_formats_of_checkpoints_are_told_apart(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "weights"
    for zipped_format in (True, False):
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped_format)
        assert identify(path) == PICKLE
    assert identify(whole / "model.safetensors") == SAFETENSORS
    for name in ("config.json", "vocab.txt"):
        assert identify(whole / name) == TEXT


def test_the_content_decides_and_not_the_name(tmp_path: Path, whole: Path) -> None:
    """safetensors called .bin and a pickle called .safetensors are both read as what they are."""
    shutil.copy(whole / "model.safetensors", tmp_path / "pytorch_model.bin")
    tensors = read_tensors(tmp_path / "pytorch_model.bin")
    torch.save(tensors, tmp_path / "model.safetensors")
    again = read_tensors(tmp_path / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", ["bin", "old.bin", "safetensors"])
def test_weights_that_are_cut_short(tmp_path: Path, whole: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        shutil.copy(whole / "model.safetensors", path)
    else:
        torch.save(read_tensors(whole / "model.safetensors"), path, _use_new_zipfile_serialization=suffix == "bin")
    with path.open("r+b") as stream:
        stream.truncate(int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match=r"cut short|damaged") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 20) + b'{"a": {"dtype": "F32',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}        ',
        struct.pack("<Q", 2) + b"{]",
    ],
)
def test_damaged_headers_of_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"safetensors file (whose header is damaged|that is cut short)"):
        read_tensors(path)


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": np.ones(3)}))
    with pytest.raises(CheckpointError, match="cannot be read as plain weights") as caught:
        read_tensors(path)
    assert "weights_only" not in str(caught.value)
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="text or bytes of an unknown kind"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"error": "Repository not found"}', "error message of a server"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": 1', "not valid JSON"),
        (b"[1]", "holds a list"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=fault):
        read_json(path)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_json(path) == {"a": 1}


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder, where a file is expected"):
        identify(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="no regular file"):
        identify(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="is a link to nowhere, which does not exist"):
        identify(tmp_path / "link")


def test_a_graph_of_this_project_is_known_as_onnx(tiny) -> None:
    with pytest.raises(CheckpointError, match="an ONNX graph"):
        identify(tiny.bundle / "image" / "onnx" / "model.onnx")
    assert onnx.load(tiny.bundle / "image" / "onnx" / "model.onnx").ir_version
