"""Phrase grounding on trained weights by the command line, beside the reference package and metrics written out."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from health_multimodal.vlp import ImageTextInferenceEngine
from numpy.typing import NDArray

import bench.__main__
import runtime
from tests.trained.cases import CROP, SIDE, Case
from tests.trained.conftest import Trained
from tests.trained.wordings import FINDINGS

pytestmark = pytest.mark.slow

COUNT = 160
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def shown(trained: Trained) -> list[tuple[int, Case]]:
    """Number and case, of those with a finding."""
    return [(number, case) for number, case in enumerate(trained.cases[:COUNT]) if case.location]


def reference_maps(trained: Trained, numbers: Sequence[int], phrases: Sequence[str]) -> list[NDArray[np.float32]]:
    """The reference package's maps of PyTorch's embeddings."""
    embeds = F.normalize(torch.from_numpy(trained.encode_texts(list(phrases))), dim=1)
    patches = torch.from_numpy(trained.patch_embeds)
    maps = []
    for number, embed in zip(numbers, embeds, strict=True):
        smooth = ImageTextInferenceEngine._get_similarity_map_from_embeddings(patches[number].contiguous(), embed[None])
        maps.append(ImageTextInferenceEngine.convert_similarity_to_image_size(smooth, SIDE, SIDE, SIDE, CROP))
    return maps


def scores(values: NDArray[np.float32], region: tuple[int, int, int, int]) -> dict[str, float]:
    """The papers' metrics, written out."""
    top, left, bottom, right = region
    rows, columns = np.mgrid[:SIDE, :SIDE]
    within = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    seen = ~np.isnan(values)
    inside, outside = values[seen & within].astype(float), values[seen & ~within].astype(float)
    cnr = (inside.mean() - outside.mean()) / np.sqrt(inside.std() ** 2 + outside.std() ** 2)
    hits = [(inside > threshold).sum() for threshold in THRESHOLDS]
    unions = [len(inside) + (outside > threshold).sum() for threshold in THRESHOLDS]
    highest = values[seen].max()
    return {
        "cnr": cnr,
        "absolute_cnr": abs(cnr),
        "miou": np.mean(np.array(hits) / unions),
        "pointing": (inside == highest).sum() / (values == highest).sum(),
    }


def mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([found[name] for found in each])) for name in each[0]}


def of_classes(cases: Sequence[tuple[int, Case]], each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over the findings' means, as in the papers' tables."""
    return mean(
        [
            mean([found for (_, case), found in zip(cases, each, strict=True) if case.finding == finding])
            for finding in FINDINGS
        ]
    )


@pytest.fixture(scope="module")
def expected(trained: Trained) -> list[dict[str, float]]:
    """Scores of every phrase by PyTorch, in order."""
    cases = shown(trained)
    maps = reference_maps(trained, [number for number, _ in cases], [case.caption for _, case in cases])
    return [scores(values, case.region) for values, (_, case) in zip(maps, cases, strict=True)]


@pytest.fixture(scope="module")
def annotations(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases' captions and regions as MS-CXR 1.0.0 publishes them, of films twice as large."""
    file = tmp_path_factory.mktemp("ms-cxr") / "annotations.csv"
    names = "category_name,label_text,path,x,y,w,h,image_width,image_height,dicom_id"
    with file.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(names.split(","))
        for number, case in shown(trained):
            top, left, bottom, right = (2 * each for each in case.region)
            name = f"{number:04}"
            path = f"files/p10/{name}.jpg"
            box = (left, top, right - left, bottom - top)
            rows.writerow((case.finding, case.caption, path, *box, 2 * SIDE, 2 * SIDE, name))
    return file


def measure(
    trained: Trained, annotations: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Means and each phrase's scores by `python -m bench quality ms-cxr`."""
    arguments = ["--annotations", str(annotations), "--images", str(trained.films), "--json"]
    arguments += ["--provider", "cpu", "--precision", precision]
    assert bench.__main__.main(["quality", "ms-cxr", str(trained.bundle), *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    (system,) = report["results"]
    return report["results"][system], [phrase[system] for phrase in report["each"]]


def test_the_reference_finds_the_place_of_a_phrase(trained: Trained, expected: list[dict[str, float]]) -> None:
    reached = mean(expected)
    assert reached["cnr"] >= 1.2, reached
    # Negative control: boxes on the other side.
    cases = shown(trained)
    maps = reference_maps(trained, [number for number, _ in cases], [case.caption for _, case in cases])
    mirrored = [(top, SIDE - right, bottom, SIDE - left) for top, left, bottom, right in (c.region for _, c in cases)]
    missed = mean([scores(values, region) for values, region in zip(maps, mirrored, strict=True)])
    assert missed["cnr"] < -0.2, missed
    assert missed["pointing"] < 0.02 < 0.1 < reached["pointing"], (missed, reached)
    assert missed["miou"] < reached["miou"] / 3, (missed, reached)


def test_fp32_scores_every_phrase_as_pytorch_does(
    trained: Trained, expected: list[dict[str, float]], annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means, each = measure(trained, annotations, "fp32", capsys)
    assert len(each) == len(expected)
    for found, wanted in zip(each, expected, strict=True):
        assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
    for name, wanted in {
        "all phrases": mean(expected),
        "mean of the findings": of_classes(shown(trained), expected),
    }.items():
        assert {figure: means[name][figure] for figure in wanted} == pytest.approx(wanted, abs=1e-5)


def test_int8_finds_the_places_as_well(
    trained: Trained, expected: list[dict[str, float]], annotations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means, each = measure(trained, annotations, "int8", capsys)
    wanted, found = of_classes(shown(trained), expected), means["mean of the findings"]
    assert found["cnr"] == pytest.approx(wanted["cnr"], rel=0.05)
    assert found["absolute_cnr"] == pytest.approx(wanted["absolute_cnr"], rel=0.05)
    assert found["pointing"] == pytest.approx(wanted["pointing"], abs=0.01)
    assert found["miou"] == pytest.approx(wanted["miou"], abs=0.01)
    assert any(abs(found["cnr"] - wanted["cnr"]) > 1e-4 for found, wanted in zip(each, expected, strict=True))


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.1)])
def test_ground_gives_the_map_and_the_score_of_the_reference(
    trained: Trained, engines: Mapping[str, runtime.Engine], precision: str, tolerance: float
) -> None:
    numbers, cases = zip(*shown(trained)[:16], strict=True)
    phrases = [case.caption for case in cases]
    maps = reference_maps(trained, numbers, phrases)
    embeds = trained.encode_texts(phrases)
    for index, (number, case) in enumerate(zip(numbers, cases, strict=True)):
        found = engines[precision].ground(case.image, case.caption)
        assert np.array_equal(np.isnan(found.similarity_map), np.isnan(maps[index]))
        assert np.nanmax(np.abs(found.similarity_map - maps[index])) <= tolerance
        cosine = trained.image_embeds[number] @ embeds[index] / np.linalg.norm(embeds[index])
        assert found.score == pytest.approx(cosine, abs=tolerance)
