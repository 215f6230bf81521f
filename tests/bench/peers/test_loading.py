"""Plain Pillow gives the reference's pixels of 8-bit files, so that its contestants are held to the same gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Resize

from bench.peers.loading import LOADERS, PILLOW, REFERENCE
from bench.peers.torch_images import in_files_or_pixels
from bench.workloads.contestants import peers
from export.samples import chest_phantom

SIZES = [(600, 700), (701, 533), (512, 900), (1300, 1024), (513, 512)]


def written(folder: Path) -> list[Path]:
    """JPEG files of several sizes and ranges of values, one in colours."""
    files = []
    for index, (height, width) in enumerate(SIZES):
        film = (chest_phantom(height, width, index) * (0.5 + 0.08 * index) + 7 * index).astype(np.uint8)
        image = Image.fromarray(film if index else np.stack([film, film // 2, film], -1))
        files.append(folder / f"{index}.jpg")
        image.save(files[-1], quality=90)
    return files


def test_pixels_are_the_references(tmp_path: Path) -> None:
    by_reference, by_pillow = LOADERS[REFERENCE](), LOADERS[PILLOW]()
    for file in written(tmp_path):
        expected, found = by_reference(file), by_pillow(file)
        assert found.dtype == expected.dtype == np.uint8
        assert np.array_equal(found, expected), file.name
        unstretched = np.asarray(CenterCrop(480)(Resize(512)(Image.open(file).convert("L"))))
        assert not np.array_equal(found[0], unstretched), "a negative control: the remap is there"


def test_files_decoded_beside_the_network_keep_their_order(tmp_path: Path) -> None:
    files = list(map(str, written(tmp_path))) * 2
    answers = [
        in_files_or_pixels(lambda pixels: pixels.mean((1, 2))[:, None], {"threads": 2, "loading": loading})(
            {"images": files}
        )()
        for loading in (REFERENCE, PILLOW)
    ]
    assert np.array_equal(*answers)
    assert len(np.unique(answers[0])) == len(SIZES)


def test_contestants_of_files_alone_are_told() -> None:
    found = {entry.name: entry for entry in peers() if entry.told.get("loading") == PILLOW}
    assert set(found) == {"torch-bf16-pillow", "onnxruntime-pillow", "onnxruntime-int8-pillow", "openvino-int8-pillow"}
    assert all(entry.systems == ("files",) for entry in found.values())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_range_of_all_values_is_left_alone(tmp_path: Path, mode: str) -> None:
    film = chest_phantom(600, 600)
    film[0, 0], film[0, 1] = 0, 255
    file = tmp_path / "a.png"
    Image.fromarray(film).convert(mode).save(file)
    assert np.array_equal(LOADERS[PILLOW]()(file), LOADERS[REFERENCE]()(file))
