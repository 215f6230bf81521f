"""The server's own endpoints against calls of the engine: pictures in every form that they may come in."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from export.samples import chest_phantom
from runtime.engine import Engine
from runtime.serve.protocols import drawing
from runtime.serve.request_errors import RequestError
from runtime.tasks.joint import locate_phrases
from tests.runtime.serve.protocols.direct import DirectModel

TEXTS = ["There is a left pleural effusion.", "No pneumothorax", "Clear lungs"]
PROMPTS = {"Edema": [["pulmonary edema", "edema"], ["no edema"]], "Effusion": [["effusion"], ["no effusion"]]}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_texts_are_embedded(client: TestClient, engine: Engine) -> None:
    answer = client.post("/embed/text", json={"texts": TEXTS})
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["embeddings"], engine.text.encode(TEXTS), atol=1e-6)
    tokens = sum(map(len, engine.text.tokenizer.encode(TEXTS)))
    assert (answer.json()["tokens"], answer.json()["model"]) == (tokens, "tiny")
    assert answer.headers["x-compute-tokens"] == str(tokens)
    plain = client.post("/embed/text", json={"texts": TEXTS[0], "normalize": False, "model": "other"}).json()
    np.testing.assert_allclose(plain["embeddings"], engine.text.encode(TEXTS[:1], normalize=False), atol=1e-5)
    assert plain["model"] == "other"


def test_images_come_in_every_form(client: TestClient, engine: Engine, film: bytes) -> None:
    want = engine.image.encode([film])
    data_url = f"data:image/png;base64,{b64(film)}"
    wrapped = "\n".join([b64(film)[start : start + 76] for start in range(0, len(b64(film)), 76)])
    requests = [
        {"json": {"images": [b64(film)]}},
        {"json": {"image": b64(film)}},
        {"json": {"images": data_url}},
        {"json": {"image": wrapped}},
        {"content": film, "headers": {"content-type": "image/png"}},
        {"content": film, "headers": {"content-type": "application/octet-stream"}},
        {"content": film},
        {"files": {"image": ("x.png", film, "image/png")}},
        {"files": {"images": ("x.png", film)}},
        {"data": {"image": b64(film)}, "files": {"other": ("y", b"1")}},
    ]
    for each in requests:
        answer = client.post("/embed/image", **each)
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["embeddings"], want, atol=1e-6)


def test_several_images(client: TestClient, engine: Engine, films: list[bytes]) -> None:
    want = engine.image.encode(list(films))
    assert np.abs(want[0] - want[1]).max() > 1e-4
    files = [("image", ("x.png", each, "image/png")) for each in films]
    for each in ({"files": files}, {"json": {"images": [b64(film) for film in films]}}):
        np.testing.assert_allclose(client.post("/embed/image", **each).json()["embeddings"], want, atol=1e-6)


def test_similarity(client: TestClient, engine: Engine, film: bytes) -> None:
    want = engine.similarity(film, TEXTS)
    in_json = client.post("/similarity", json={"image": b64(film), "texts": TEXTS})
    form = client.post("/similarity", data={"texts": TEXTS}, files={"image": ("x", film)})
    assert in_json.json()["similarity"] == pytest.approx(want, abs=1e-6), in_json.text
    assert form.json()["similarity"] == pytest.approx(want, abs=1e-6), form.text


def test_labels(client: TestClient, engine: Engine, film: bytes, films: list[bytes]) -> None:
    found = client.post("/classify", json={"image": b64(film), "prompts": PROMPTS})
    assert found.json()["labels"] == pytest.approx(engine.classify(film, PROMPTS), abs=1e-6), found.text
    assert found.json()["score"] == "pairs"
    short = {"Edema": ["edema", "no edema"]}  # a side that is one prompt
    found = client.post("/classify", json={"images": [b64(each) for each in films], "prompts": short})
    want = engine.classify(list(films), {"Edema": [["edema"], ["no edema"]]})
    assert [each["Edema"] for each in found.json()["results"]] == pytest.approx(
        [each["Edema"] for each in want], abs=1e-6
    )
    labels = ["Edema", "Clear lungs"]
    form = {"data": {"labels": labels, "score": "softmax"}, "files": {"image": ("x.png", film)}}
    found = client.post("/classify", **form)
    assert found.json()["labels"] == pytest.approx(engine.classify(film, labels, score="softmax"), abs=1e-6), found.text
    in_url = client.post("/classify?prompts=chexpert&rule=biovil", content=film, headers={"content-type": "image/png"})
    assert in_url.json()["labels"] == pytest.approx(engine.classify(film, "chexpert", "biovil"), abs=1e-6), in_url.text
    as_text = {"prompts": '{"Edema": {"positive": ["edema"], "negative": ["no edema"]}}'}
    found = client.post("/classify", data=as_text, files={"image": ("x.png", film)})
    assert found.json()["labels"]["Edema"] == pytest.approx(
        engine.classify(film, {"Edema": (["edema"], ["no edema"])})["Edema"]
    )


def test_phrases_are_located(client: TestClient, engine: Engine, film: bytes) -> None:
    phrases = TEXTS[:2]
    answer = client.post("/ground", json={"image": b64(film), "phrases": phrases})
    found = answer.json()
    want = engine.ground_phrases(film, phrases)
    height, width = want[0].similarity_map.shape
    assert (found["width"], found["height"]) == (width, height)
    for each, grounding, phrase in zip(found["phrases"], want, phrases, strict=True):
        assert each["phrase"] == phrase
        assert each["score"] == pytest.approx(grounding.score, abs=1e-6)
        patches = np.array(each["map"], np.float32)
        assert list(patches.shape) == found["grid"]
        np.testing.assert_allclose(patches, grounding.patches, atol=1e-6)
        box = found["box"]
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        column = np.floor((x - box["x"]) * patches.shape[1] / box["width"]).astype(int)
        row = np.floor((y - box["y"]) * patches.shape[0] / box["height"]).astype(int)
        inside = (column >= 0) & (column < patches.shape[1]) & (row >= 0) & (row < patches.shape[0])
        enlarged = np.where(
            inside, patches[row.clip(0, patches.shape[0] - 1), column.clip(0, patches.shape[1] - 1)], np.nan
        )
        np.testing.assert_allclose(enlarged, grounding.similarity_map, atol=1e-6)


@pytest.mark.parametrize("how", ["accept", "field", "url"])
def test_an_overlay(client: TestClient, film: bytes, how: str) -> None:
    fields, url, headers = {"image": b64(film), "phrases": TEXTS[0]}, "/ground", {}
    if how == "field":
        fields["format"] = "png"
    url += "?format=png" if how == "url" else ""
    headers = {"accept": "image/png"} if how == "accept" else {}
    answer = client.post(url, json=fields, headers=headers)
    assert answer.headers["content-type"] == "image/png"
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.width > 500
    assert len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)) > 500  # no blank sheet


def test_large_pictures_are_drawn_on_a_smaller_copy(engine: Engine) -> None:
    """The map lies on the same part of the picture."""
    picture = Image.fromarray(chest_phantom(3301, 2503))
    (located,) = locate_phrases(engine.text, engine.image, picture, TEXTS[:1])
    drawn = []
    for side in (1600, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drawing, "_SIDE", side)
            content = drawing._draw(picture, located, TEXTS[0], "")
        drawn.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB").resize((600, 400)), float))
    assert np.abs(drawn[0] - drawn[1]).mean() < 2
    assert np.abs(drawn[0] - np.roll(drawn[1], 10, axis=1)).mean() > 4


def test_nothing_is_spooled_to_disk(client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A film of more than a megabyte, of which frameworks make a temporary file."""
    for name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "mkstemp"):
        monkeypatch.setattr(f"tempfile.{name}", None)
    stream = io.BytesIO()
    Image.fromarray(chest_phantom(1400, 1200)).save(stream, "PNG", compress_level=0)
    film = stream.getvalue()
    assert len(film) > 1 << 20
    want = engine.image.encode([film])
    for each in ({"files": {"image": ("x.png", film)}}, {"content": film}, {"json": {"image": b64(film)}}):
        found = client.post("/embed/image", **each).json()["embeddings"]
        np.testing.assert_allclose(found, want, atol=1e-6)


def test_a_picture_as_the_model_sees_it(client: TestClient, film: bytes) -> None:
    answer = client.post("/picture", content=film, headers={"content-type": "image/png"})
    shown, sent = (np.asarray(Image.open(io.BytesIO(each))) for each in (answer.content, film))
    assert shown.shape == sent.shape
    assert np.corrcoef(shown.ravel(), sent.ravel())[0, 1] > 0.999


def test_a_model_that_is_not_there(client: TestClient) -> None:
    answer = client.post("/embed/text", json={"texts": "x", "model": "missing"})
    assert (answer.status_code, answer.json()["error_type"]) == (404, "NotFound")


def test_a_full_queue(client: TestClient, model: DirectModel) -> None:
    model.fails = RequestError("Overloaded", "The server is busy.", retry_after=2.3)
    answer = client.post("/embed/text", json={"texts": "x"})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["retry_after"]) == (429, "3", 2.3)
