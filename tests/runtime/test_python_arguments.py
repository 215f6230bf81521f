"""What Python callers pass: what is accepted is what was meant, and all else is an InputError that says what came."""

from __future__ import annotations

import io
from collections import OrderedDict, UserDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime import Box, Engine, InputError
from tests.conftest import System

pyarrow = pytest.importorskip("pyarrow")

TEXTS = ["No effusion", "Small [MASK] effusion"]
FILM = chest_phantom(140, 150)


@pytest.fixture(scope="module")
def engine(tiny: System) -> Engine:
    return runtime.load(tiny.bundle, provider="cpu")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.png"
    Image.fromarray(FILM).save(path)
    return path


class Column:
    """As a pandas Series is seen from outside: an array with an index, whose items are what iteration gives."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self._values, dtype=object)


class Table:
    """As a pandas DataFrame is: iteration gives the names of its columns."""

    columns = ("text",)

    def __iter__(self) -> Any:
        return iter(self.columns)


SAME_TEXTS = {
    "tuple": tuple(TEXTS),
    "iterator": iter(TEXTS),
    "array of str": np.array(TEXTS),
    "array of objects": np.array(TEXTS, dtype=object),
    "numpy's str": [np.str_(text) for text in TEXTS],
    "column": Column(TEXTS),
    "pyarrow's array": pyarrow.array(TEXTS),
    "pyarrow's chunks": pyarrow.chunked_array([[TEXTS[0]], [TEXTS[1]]]),
    "keys that are asked for": dict.fromkeys(TEXTS).keys(),
}


@pytest.mark.parametrize("name", SAME_TEXTS)
def test_texts_in_whatever_has_an_order(engine: Engine, name: str) -> None:
    np.testing.assert_array_equal(engine.text.encode(SAME_TEXTS[name]), engine.text.encode(TEXTS))


def test_one_text_in_an_array_without_axes(engine: Engine) -> None:
    np.testing.assert_array_equal(engine.text.encode(np.array(TEXTS[0])), engine.text.encode(TEXTS[0]))


NO_TEXTS = {
    "dict": ({"text": "No effusion"}, "A dict came.*its keys would be taken for the texts"),
    "ordered dict": (OrderedDict(text="No effusion"), "its keys"),
    "user's dict": (UserDict(text="No effusion"), "its keys"),
    "table": (Table(), "A Table came.*Choose one of its columns"),
    "pyarrow's table": (pyarrow.table({"text": TEXTS}), "Choose one of its columns"),
    "set": (set(TEXTS), "A set has no order"),
    "bytes": (b"No effusion", r"A bytes came.*\.decode"),
    "bytearray": (bytearray(b"No effusion"), r"\.decode"),
    "open file": (io.StringIO("No effusion\nClear\n"), r"A StringIO came.*splitlines"),
    "int": (5, "A int came where texts are expected"),
    "None": (None, "A NoneType came"),
    "matrix": (np.array([TEXTS]), r"\(1, 2\) came"),
    "empty": ([], "is empty"),
    "object": (SimpleNamespace(text="No effusion"), "A SimpleNamespace came"),
    "item None": ([TEXTS[0], None], r"\[1\].*a NoneType \(a missing value\) came where a str is expected"),
    "item NaN": ([TEXTS[0], float("nan")], r"\[1\].*a float \(a missing value\)"),
    "item bytes": ([b"No effusion"], "a bytes came where a str is expected"),
    "item list": ([TEXTS], "a list came where a str is expected"),
    "null of pyarrow": (pyarrow.array([TEXTS[0], None]), r"\[1\]"),
}
TAKE_TEXTS: dict[str, Callable[[Engine, Any], Any]] = {
    "encode": lambda engine, texts: engine.text.encode(texts),
    "encode_iter": lambda engine, texts: list(engine.text.encode_iter(texts)),
    "similarity": lambda engine, texts: engine.text.similarity(texts, texts),
    "fill_mask": lambda engine, texts: engine.text.fill_mask(texts),
    "predict_masked_tokens": lambda engine, texts: engine.text.predict_masked_tokens(texts),
    "masked_token_accuracy": lambda engine, texts: engine.text.masked_token_accuracy(texts),
    "joint similarity": lambda engine, texts: engine.similarity(FILM, texts),
    "ground_phrases": lambda engine, texts: engine.ground_phrases(FILM, texts),
}


@pytest.mark.parametrize("call", TAKE_TEXTS)
@pytest.mark.parametrize("name", NO_TEXTS)
def test_no_texts(engine: Engine, name: str, call: str) -> None:
    texts, words = NO_TEXTS[name]
    if name == "empty" and call == "encode_iter":
        assert TAKE_TEXTS[call](engine, texts) == []
        return
    if isinstance(texts, io.StringIO):
        texts = io.StringIO(texts.getvalue())
    with pytest.raises(InputError, match=words if call == "encode" else None):
        TAKE_TEXTS[call](engine, texts)


def test_an_iterator_of_embeddings_says_at_once_what_is_wrong(engine: Engine) -> None:
    with pytest.raises(InputError, match="on_fault=3; a function of one argument"):
        engine.text.encode_iter(TEXTS, on_fault=3)
    with pytest.raises(InputError, match="normalize='no'; True or False is expected"):
        engine.text.encode_iter(TEXTS, normalize="no")
    with pytest.raises(InputError, match="its keys"):
        engine.text.encode_iter({"text": "No effusion"})


LOADED = {
    "one part": {"parts": "text"},
    "a set of parts": {"parts": {"text"}},
    "numpy's numbers": {"threads": np.int64(1), "min_fidelity": np.float32(0.5), "dicom_frame": np.int32(2)},
    "numpy's flags": {"voi_lut": np.True_, "share": np.False_},
    "precision by part": {"precision": {"text": "fp32"}, "parts": "text"},
}


@pytest.mark.parametrize("name", LOADED)
def test_load_accepts(tiny: System, name: str) -> None:
    loaded = runtime.load(tiny.bundle, provider="cpu", **LOADED[name])
    assert ("image" in loaded.precision) is ("parts" not in LOADED[name])


REFUSED_BY_LOAD = {
    "threads=2.0": {"threads": 2.0},
    "threads=True": {"threads": True},
    "threads='2'": {"threads": "2"},
    "threads=1000000000000": {"threads": 10**12},
    "precision=8": {"precision": 8},
    "precision names the part 'sound'": {"precision": {"sound": "fp32"}},
    "precision of the part 'text' is 8": {"precision": {"text": 8}},
    "precision=['fp32']": {"precision": ["fp32"]},
    "provider=": {"provider": ["CPUExecutionProvider"]},
    "provider=None": {"provider": None},
    "min_fidelity=None": {"min_fidelity": None},
    "min_fidelity='0.9'": {"min_fidelity": "0.9"},
    "min_fidelity=nan": {"min_fidelity": float("nan")},
    "min_fidelity=True": {"min_fidelity": True},
    "There is no part 'sound'": {"parts": "sound"},
    "There is no part 5": {"parts": [5]},
    "The list of parts is empty": {"parts": []},
    "A dict came where parts are expected": {"parts": {"text": True}},
    "A int came where parts are expected": {"parts": 3},
    "dicom_frame=True": {"dicom_frame": True},
    "dicom_frame=0": {"dicom_frame": 0},
    "voi_lut='no'": {"voi_lut": "no"},
    "invert_monochrome1=None": {"invert_monochrome1": None},
    "fast_decode=1": {"fast_decode": 1},
    "refuse_long=1": {"refuse_long": 1},
    "share='yes'": {"share": "yes"},
    "pixel_padding=None": {"pixel_padding": None},
}


@pytest.mark.parametrize("words", REFUSED_BY_LOAD)
def test_load_refuses(tiny: System, words: str) -> None:
    with pytest.raises(InputError) as caught:
        runtime.load(tiny.bundle, **{"provider": "cpu", **REFUSED_BY_LOAD[words]})
    assert words in str(caught.value)


@pytest.mark.parametrize("bundle", [None, 5, b"\xff", ["a"], {"bundle": "a"}, io.StringIO("a")])
def test_what_is_no_path(bundle: Any) -> None:
    for call in (runtime.load, runtime.open_index):
        with pytest.raises(InputError, match=r"=.*; a path is expected"):
            call(bundle)


CALLS: dict[str, tuple[str, Callable[[Engine], Any]]] = {
    "top_k=True": ("whole number", lambda e: e.text.fill_mask(TEXTS[1], top_k=True)),
    "top_k=1.5": ("whole number", lambda e: e.text.fill_mask(TEXTS[1], top_k=1.5)),
    "top_k=10**12": ("the vocabulary has", lambda e: e.text.fill_mask(TEXTS[1], top_k=10**12)),
    "top_k=10**5000": (
        "cannot be shown; the vocabulary|the vocabulary",
        lambda e: e.text.fill_mask(TEXTS[1], top_k=10**5000),
    ),
    "targets dict": ("keys would be taken for the targets", lambda e: e.text.fill_mask(TEXTS[1], targets={"a": 1})),
    "targets 5": ("A int came where targets", lambda e: e.text.fill_mask(TEXTS[1], targets=5)),
    "targets of None": (r"a NoneType \(a missing value\)", lambda e: e.text.fill_mask(TEXTS[1], targets=["no", None])),
    "share text": ("share='half'", lambda e: e.text.masked_token_accuracy(TEXTS[:1], share="half")),
    "share nan": ("share=nan", lambda e: e.text.masked_token_accuracy(TEXTS[:1], share=float("nan"))),
    "seed -1": ("seed=-1", lambda e: e.text.masked_token_accuracy(TEXTS[:1], seed=-1)),
    "seed 0.5": ("seed=0.5", lambda e: e.text.masked_token_accuracy(TEXTS[:1], seed=0.5)),
    "one_at_a_time": ("one_at_a_time='no'", lambda e: e.text.masked_token_accuracy(TEXTS[:1], one_at_a_time="no")),
    "normalize": ("normalize=0", lambda e: e.text.encode(TEXTS, normalize=0)),
    "a of similarity": ("a is a dict", lambda e: e.text.similarity({"a": "b"}, ["b"])),
    "b of similarity": ("b is a int", lambda e: e.text.similarity("a", 5)),
    "phrase": ("one phrase", lambda e: e.ground(FILM, ["a", "b"])),
    "prompts list": ("prompts are expected", lambda e: e.classify(FILM, ["edema"])),
    "prompts bytes": ("prompts are expected", lambda e: e.classify(FILM, b"chexpert")),
    "prompts of str": ("a list is expected", lambda e: e.classify(FILM, {"Edema": ("edema", "no edema")})),
    "prompts of a number": ("label 5", lambda e: e.classify(FILM, {5: (["a"], ["b"])})),
    "rule": ("There is no rule 5", lambda e: e.classify(FILM, "chexpert", rule=5)),
    "classifier's rows": (
        "no array can be made",
        lambda e: e.zero_shot_classifier("pneumonia").scores([[1.0], [1.0, 2.0]]),
    ),
    "classifier's dict": ("image_embeds is a dict", lambda e: e.zero_shot_classifier("pneumonia").scores({"a": 1})),
    "box of text": ("x of a box='1'", lambda _: Box("1", 0, 5, 5)),
    "box of None": ("width of a box=None", lambda _: Box(0, 0, None, 5)),
    "box of True": ("y of a box=True", lambda _: Box(0, True, 5, 5)),
    "box of nan": ("not finite", lambda _: Box(0, float("nan"), 5, 5)),
    "box without area": ("no area", lambda _: Box(0, 0, -5, 5)),
    "huge box": ("height of a box", lambda _: Box(0, 0, 5, 10**400)),
    "boxes of tuples": (
        "A tuple came where a Box is expected",
        lambda _: runtime.score_grounding(np.zeros((9, 9)), [(0, 0, 1, 1)]),
    ),
    "boxes 5": ("A int came where boxes", lambda _: runtime.score_grounding(np.zeros((9, 9)), 5)),
    "map of text": ("similarity_map is", lambda _: runtime.score_grounding(np.array([["a"]]), [Box(0, 0, 1, 1)])),
    "map None": ("similarity_map is", lambda _: runtime.score_grounding(None, [Box(0, 0, 1, 1)])),
    "thresholds": (
        "a threshold='0.1'",
        lambda _: runtime.score_grounding(np.zeros((9, 9)), [Box(0, 0, 1, 1)], ["0.1"]),
    ),
    "engine of an index": ("what runtime.load returns", lambda _: runtime.build_index("bundle", "films", "out")),
    "index out": ("out=None; a path", lambda e: runtime.build_index(e, "films", None)),
    "index column": ("column=5", lambda e: runtime.build_index(e, "films", "out", column=5)),
    "index force": ("force='no'", lambda e: runtime.build_index(e, "films", "out", force="no")),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_refuse(engine: Engine, name: str) -> None:
    words, call = CALLS[name]
    with pytest.raises(InputError, match=words):
        call(engine)


def test_calls_accept_numpy_s_scalars(engine: Engine) -> None:
    assert len(engine.text.fill_mask(TEXTS[1], top_k=np.int64(2))) == 2
    assert len(engine.text.fill_mask(TEXTS[1], targets=np.array(["no", "left"]))) <= 2
    assert engine.text.masked_token_accuracy(TEXTS[:1], share=np.float32(0.5), seed=np.int64(3)).texts == 1
    assert Box(np.int64(1), np.float32(2), 3, 4) == Box(1, 2, 3, 4)
    scores = runtime.score_grounding(np.random.default_rng(0).random((9, 9)), Box(0, 0, 3, 3))
    assert np.isfinite(scores.cnr)


def test_an_index_takes_and_refuses(engine: Engine, film: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = runtime.build_index(engine, np.array([str(film)]), tmp_path / "index")
    embedding = engine.image.encode(film)
    assert index.search(embedding, top_k=np.int64(3)).ids == [[str(film)]]
    for words, call in {
        "top_k=True": lambda: index.search(embedding, top_k=True),
        "top_k='3'": lambda: index.search(embedding, top_k="3"),
        "exact=1": lambda: index.search(embedding, exact=1),
        "embeddings is a dict": lambda: index.search({"a": 1}),
        "row=7": lambda: index.item(7),
        "row=-1": lambda: index.item(-1),
        "A dict came where inputs": lambda: runtime.build_index(engine, {"films": film}, tmp_path / "other"),
        "an input=5": lambda: runtime.build_index(engine, [5], tmp_path / "other"),
        "A set has no order": lambda: runtime.build_index(engine, {str(film)}, tmp_path / "other"),
        "A int came where texts": lambda: runtime.build_index(engine, [], tmp_path / "other", texts=3),
    }.items():
        with pytest.raises(InputError) as caught:
            call()
        assert words in str(caught.value)
