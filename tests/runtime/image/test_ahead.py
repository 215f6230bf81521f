"""Images decoded while prompts are embedded: side by side, once, and with the errors of those that are not."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.errors import BundleError, InputError
from runtime.image import encoder as encoder_module
from runtime.image.given_images import Decoded, Pixels
from runtime.image.images import decode_image
from runtime.text import TextEncoder
from tests.conftest import System

PROMPTS = {"Edema": (["edema"], ["no edema"]), "Effusion": (["pleural effusion"], ["no pleural effusion"])}
# Long enough for any machine: whoever waits so long waits for ever.
PATIENCE = 60


@pytest.fixture(scope="module")
def engine(tiny: System) -> runtime.Engine:
    """Without a cache: every prompt is computed each time."""
    return runtime.load(tiny.bundle, provider="cpu", threads=2, text_cache=0)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    file = tmp_path / "film.png"
    Image.fromarray(chest_phantom(150, 180)).save(file)
    return file


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Decoding:
    """Tells when images were decoded, and by which thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[object] = []
        self.threads: list[str] = []
        self.done = threading.Event()
        monkeypatch.setattr(encoder_module, "decode_image", self._decode)

    def _decode(self, image, *rest, **named):
        self.images.append(image)
        self.threads.append(threading.current_thread().name)
        try:
            return decode_image(image, *rest, **named)
        finally:
            self.done.set()


def wait_in_texts(monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> None:
    """Let texts be embedded only once something has happened."""
    encode = TextEncoder.encode

    def waiting(self: TextEncoder, *texts, **named):
        assert until.wait(PATIENCE), "nothing is decoded while texts are embedded"
        return encode(self, *texts, **named)

    monkeypatch.setattr(TextEncoder, "encode", waiting)


def test_every_task_decodes_while_its_prompts_are_embedded(
    engine: runtime.Engine, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.asarray(Image.open(film))
    tasks = {
        "classify": lambda image: engine.classify(image, PROMPTS),
        "classify a list": lambda image: engine.classify([image], PROMPTS)[0],
        "similarity": lambda image: engine.similarity(image, ["edema", "fluid"]),
        "similarity_map": lambda image: engine.similarity_map(image, "edema"),
        "ground": lambda image: engine.ground(image, "edema").score,
    }
    for name, task in tasks.items():
        expected = task(array)  # which is not decoded
        with monkeypatch.context() as patch:
            decoding = Decoding(patch)
            wait_in_texts(patch, decoding.done)
            engine._classifier = None  # of which prompts that were seen before are kept
            for image in (film, film.read_bytes(), Image.open(film)):
                decoding.done.clear()
                engine._classifier = None
                found = task(image)
                assert (
                    np.array_equal(found, expected, equal_nan=True) if name == "similarity_map" else found == expected
                )
        assert decoding.threads == ["cxr-ahead"] * 3, name


def test_a_list_is_decoded_as_far_as_there_is_time(
    engine: runtime.Engine, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [film.with_name(f"{index}.png") for index in range(5)]
    for index, file in enumerate(files):
        Image.fromarray(chest_phantom(150, 180, index)).save(file)
    same = Image.open(files[4])
    given = [*map(str, files), np.asarray(Image.open(files[3])), same, same]
    expected = engine.image.encode(given)
    third = threading.Event()

    def decode(image, *rest, **named):
        decoded.append(image)
        if len(decoded) == 3:
            third.set()
        return decode_image(image, *rest, **named)

    decoded: list[object] = []
    monkeypatch.setattr(encoder_module, "decode_image", decode)
    with engine.image.decoded_ahead(given) as films:
        assert third.wait(PATIENCE)
    assert 3 <= len(decoded) <= 6
    assert decoded == [*given[:5], same][: len(decoded)], "in order, arrays left out, the same one once"
    kinds = [type(image) for image in films.images]
    assert kinds[:3] == [Decoded] * 3
    assert kinds[5] is np.ndarray
    assert np.array_equal(engine.image.encode(films.images), expected)
    with engine.image.decoded_ahead(iter(given)) as films:
        pass
    assert not isinstance(films.images, list), "an iterator is not begun"


def test_errors_are_those_of_images_that_are_not_decoded_ahead(engine: runtime.Engine, film: Path) -> None:
    text, flat = film.with_name("note.png"), film.with_name("flat.png")
    text.write_text("no image")
    Image.fromarray(np.full((60, 60), 7, np.uint8)).save(flat)
    broken = film.with_name("broken.png")
    broken.write_bytes(film.read_bytes()[:2000])
    classify, similarity = (
        lambda image: engine.classify(image, PROMPTS),
        lambda image: engine.similarity(image, "edema"),
    )
    for given, tasks in (
        (film.with_name("absent.jpg"), (classify, similarity)),
        (flat.read_bytes(), (classify, similarity)),
        ([broken], (classify, similarity)),
        ([film, text, flat], (classify,)),
        ([broken, film, broken], (classify,)),
        ([film, {"a": 1}], (classify,)),
        ([], (classify, similarity)),
    ):
        with pytest.raises(InputError) as expected:
            engine.image.encode(given)
        for task in tasks:
            with pytest.raises(InputError) as found:
                task(given)
            assert str(found.value) == str(expected.value)
            assert found.value.faults == expected.value.faults


def test_what_is_wrong_with_the_prompts_comes_first(engine: runtime.Engine, film: Path) -> None:
    absent = film.with_name("absent.png")
    for call in (
        lambda: engine.classify(absent, {"Edema": (["[SEP]"], ["no edema"])}),
        lambda: engine.similarity(absent, "[SEP]"),
        lambda: engine.ground(absent, "[SEP]"),
    ):
        with pytest.raises(InputError, match="SEP"):
            call()


def test_a_file_that_cannot_be_rewound_is_read_once(engine: runtime.Engine, film: Path) -> None:
    class Pipe(io.RawIOBase):
        name = "pipe"

        def __init__(self, content: bytes) -> None:
            self._rest = content

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            content, self._rest = self._rest, b""
            return content

        def tell(self) -> int:
            raise OSError("no seeking")

    expected = engine.similarity(film, "edema")
    assert engine.similarity(Pipe(film.read_bytes()), "edema") == expected
    with pytest.raises(InputError, match="pipe: begins as a PNG"):
        engine.similarity(Pipe(film.read_bytes()[:30]), "edema")


def test_with_one_thread_or_no_more_to_be_had_images_wait(
    tiny: System, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = runtime.load(tiny.bundle, provider="cpu", threads=1)
    expected = one.similarity(np.asarray(Image.open(film)), "edema")
    decoding = Decoding(monkeypatch)
    assert one.similarity(film, "edema") == expected
    assert decoding.threads == []
    two = runtime.load(tiny.bundle, provider="cpu", threads=2)

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert two.similarity(film, "edema") == pytest.approx(expected, abs=1e-6)
    assert decoding.threads == []


def test_prepared_images_and_texts_alone_start_no_thread(
    tiny: System, engine: runtime.Engine, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pixels,), _ = engine.image.load(film)
    assert isinstance(pixels, Pixels)
    texts = runtime.load(tiny.bundle, provider="cpu", parts=["text"])
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self.name))
    engine.similarity(pixels, "edema")
    with pytest.raises(BundleError, match="image part was not loaded"):
        texts.similarity(film, "edema")
    with pytest.raises(BundleError, match="image part was not loaded"):
        texts.classify(film, PROMPTS)
    assert started == []


def test_notices_are_counted_where_the_image_is_used(engine: runtime.Engine, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.runtime.dicoms import write_dicom

    file = write_dicom(tmp_path / "ct.dcm", chest_phantom(90, 70).astype(np.uint16) * 16, Modality="CT")
    before = sum(engine.image.notices.counts().values())
    with pytest.raises(InputError):
        engine.similarity(file, "[SEP]")
    assert sum(engine.image.notices.counts().values()) == before
    engine.similarity(file, "edema")
    assert sum(engine.image.notices.counts().values()) == before + 1
