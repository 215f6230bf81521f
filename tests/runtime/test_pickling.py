"""A pickled engine is the same one where it is unpickled: opened by its path, with its options and its digests."""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.errors import BundleError, InputError
from runtime.image.dicom_options import DicomOptions
from runtime.tasks.zero_shot import ZeroShotClassifier
from tests.runtime.handmade import ALL, artifact, fp32, record, write_bundle
from tests.runtime.scripts import run_script

FILM = (np.random.default_rng(0).random((150, 130)) * 255).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    fast = artifact("fp16", ALL, record("cpu", 0.999, 1.0, "fp16"))
    return write_bundle(tmp_path / "bundle", [fp32(), fast], [fp32()])


def _cloudpickled(engine: object) -> object:
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(engine))


@pytest.mark.parametrize(
    "again", [lambda each: pickle.loads(pickle.dumps(each)), copy.copy, copy.deepcopy, _cloudpickled]
)
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_an_engine_again(bundle: Path, provider: str, again) -> None:
    options = {"invert_monochrome1": False, "dicom_frame": 2, "voi_lut": True, "pixel_padding": "keep"}
    precision = {"text": "fp16", "image": "fp32"}
    engine = runtime.load(bundle, provider, precision, threads=1, fast_decode=True, share=True, **options)
    other = again(engine)
    assert (other.provider, other.precision, other.reason) == (provider, precision, engine.reason)
    assert other.image.dicom == engine.image.dicom == DicomOptions(False, 2, True, "keep")
    assert other.image._fast_decode
    assert np.array_equal(other.text.encode("left effusion"), engine.text.encode("left effusion"))
    assert np.array_equal(other.image.encode(FILM), engine.image.encode(FILM))
    (first, options), (second, others) = engine.__reduce__(), other.__reduce__()
    assert first is second
    assert options == others


def test_half_an_engine_stays_half(bundle: Path) -> None:
    other = pickle.loads(pickle.dumps(runtime.load(bundle, "cpu", parts=["text"])))
    assert other.text.encode("clear").shape == (1, 16)
    with pytest.raises(BundleError, match="image part was not loaded"):
        other.image  # noqa: B018


def test_parts_and_methods(bundle: Path) -> None:
    engine = runtime.load(bundle, "cpu")
    encode, image = pickle.loads(pickle.dumps((engine.text.encode, engine.image)))
    assert np.array_equal(encode("left effusion"), engine.text.encode("left effusion"))
    assert np.array_equal(image.encode(FILM), engine.image.encode(FILM))


def test_in_another_process_and_working_folder(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = runtime.load("bundle", "cpu")
    (tmp_path / "engine.pickle").write_bytes(pickle.dumps(engine))
    code = """
with open(sys.argv[1], "rb") as stream:
    print(pickle.load(stream).text.encode("left effusion")[0].tolist())
"""
    out = run_script(tmp_path, code, tmp_path / "engine.pickle", cwd=Path("/"))
    assert np.array_equal(eval(out.strip().splitlines()[-1]), engine.text.encode("left effusion")[0].tolist())


def test_a_bundle_that_was_changed_or_removed_meanwhile(bundle: Path) -> None:
    pickled = pickle.dumps(runtime.load(bundle, "cpu", "fp32"))
    graph = bundle / "text/onnx/model_fp32.onnx"
    content = graph.read_bytes()
    other = artifact(name="model_other")
    shutil.rmtree(bundle)
    write_bundle(bundle, [other], [fp32()])  # whole, but another one
    with pytest.raises(BundleError, match=r"model_fp32\.onnx cannot be read.*removed or replaced"):
        pickle.loads(pickled)
    graph.write_bytes((bundle / "text/onnx/model_other.onnx").read_bytes())
    with pytest.raises(BundleError, match="or replaced after the bundle was loaded"):
        pickle.loads(pickled)
    graph.write_bytes(content)
    assert pickle.loads(pickled).text.encode("clear").shape == (1, 16)
    shutil.rmtree(bundle)
    with pytest.raises(BundleError, match="removed or replaced"):
        pickle.loads(pickled)


def test_where_the_engine_is_not_installed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime.engines import providers

    pickled = pickle.dumps(runtime.load(bundle, "cpu"))
    monkeypatch.setattr(
        providers, "unavailable_reason", lambda provider: f"{provider.name} is missing. Install it with: pip"
    )
    with pytest.raises(runtime.ProviderError, match="Provider 'cpu' was asked for, but cpu is missing"):
        pickle.loads(pickled)


def test_what_load_did_not_open_is_not_pickled(bundle: Path) -> None:
    encoder = runtime.load(bundle, "cpu").text
    encoder._reduced = None
    with pytest.raises(TypeError, match="This TextEncoder cannot be pickled: it was not opened by"):
        pickle.dumps(encoder)


def test_a_classifier_stays_read_only(bundle: Path) -> None:
    engine = runtime.load(bundle, "cpu")
    classifier = engine.zero_shot_classifier({"effusion": (["left effusion"], ["no effusion"])})
    other = pickle.loads(pickle.dumps(classifier))
    assert isinstance(other, ZeroShotClassifier)
    assert np.array_equal(other.prompt_embeds, classifier.prompt_embeds)
    with pytest.raises(ValueError, match="read-only"):
        other.prompt_embeds[0] = 0
    grounding = engine.ground(FILM, "effusion")
    assert np.array_equal(
        pickle.loads(pickle.dumps(grounding)).similarity_map, grounding.similarity_map, equal_nan=True
    )


class TestIndex:
    @pytest.fixture
    def index(self, bundle: Path, tmp_path: Path) -> runtime.Index:
        pytest.importorskip("faiss")
        texts = [f"{word} effusion" for word in ("no", "small", "left", "right")]
        return runtime.build_index(runtime.load(bundle, "cpu"), [], tmp_path / "texts.index", texts=texts)

    def test_again(self, index: runtime.Index) -> None:
        other = pickle.loads(pickle.dumps(index))
        assert other.folder.is_absolute()
        assert other.search(index.vectors, 2).ids == index.search(index.vectors, 2).ids

    def test_made_again_meanwhile(self, index: runtime.Index, bundle: Path) -> None:
        pickled = pickle.dumps(index)
        found = index.search(index.vectors[:1], 1)
        shutil.rmtree(index.folder)
        assert index.search(index.vectors[:1], 1).ids == found.ids, "what is open goes on"
        runtime.build_index(runtime.load(bundle, "cpu"), [], index.folder, texts=["clear"])
        with pytest.raises(InputError, match="was made again after it was opened there"):
            pickle.loads(pickled)

    def test_written_to_meanwhile(self, index: runtime.Index) -> None:
        queries = index.vectors[:1].copy()
        with (index.folder / "vectors.npy").open("r+b") as stream:
            stream.seek(-4, 2)
            stream.write(b"\0\0\0\0")
        with pytest.raises(InputError, match=r"vectors\.npy was written to while the index is in use"):
            index.search(queries, 1)

    def test_another_working_folder(self, index: runtime.Index, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        opened = runtime.open_index("texts.index")
        monkeypatch.chdir("/")
        assert pickle.loads(pickle.dumps(opened)).search(opened.vectors, 2).ids == index.search(index.vectors, 2).ids
