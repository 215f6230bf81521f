"""A file of 2,500 × 2,048 pixels → the square that the graph reads, beside the reference package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from runtime.bundle.parts import Preprocessing
from runtime.image import openjpeg
from runtime.image.images import load_pixels
from runtime.image.pixels import remap_to_uint8
from runtime.image.resizing import resize_and_crop

_RULE = Preprocessing("grey", "shortest", 512, "bilinear", 480, "even", mean=(0.0,), std=(1.0,))


def _write_jpeg(film: NDArray[np.uint16], file: Path) -> None:
    Image.fromarray((film >> 4).astype(np.uint8)).save(file, quality=95)


def _write_png(film: NDArray[np.uint16], file: Path) -> None:
    Image.fromarray(film).save(file, compress_level=1)


def _dicom(film: NDArray[np.uint16], bits: int) -> Any:
    pydicom = pytest.importorskip("pydicom")
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=["made up"])
    made.Modality, made.PhotometricInterpretation, made.SamplesPerPixel = "DX", "MONOCHROME2", 1
    made.Rows, made.Columns = film.shape
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, bits, bits - 1, 0
    made.PixelData = film.tobytes()
    made["PixelData"].VR = "OW"
    return made


def _write_dicom(film: NDArray[np.uint16], file: Path) -> None:
    _dicom(film, 12).save_as(file, enforce_file_format=True)


def _write_jpeg_2000(film: NDArray[np.uint16], file: Path) -> None:
    """As archives keep most of theirs: without loss, 14 bits."""
    made = _dicom(film * 4 + film % 3, 14)
    made.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    made.save_as(file, enforce_file_format=True)


_WRITERS: dict[str, Callable[[NDArray[np.uint16], Path], None]] = {
    "film.jpg": _write_jpeg,
    "film.png": _write_png,
    "film.dcm": _write_dicom,
    "film.j2k.dcm": _write_jpeg_2000,
}


@pytest.fixture(scope="module", params=_WRITERS)
def file(request: pytest.FixtureRequest, film: NDArray[np.uint16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8-bit JPEG, 16-bit PNG, DICOM: 12 bits uncompressed, 14 bits in JPEG 2000."""
    written: Path = tmp_path_factory.mktemp("files") / request.param
    _WRITERS[request.param](film, written)
    return written


def _ours(file: Path) -> NDArray[np.uint8]:
    (found,), faults = load_pixels([file], _RULE)
    assert not faults
    return found.pixels


def _reference(file: Path) -> NDArray[np.uint8]:
    from health_multimodal.image.data.io import load_image
    from torchvision.transforms import CenterCrop, Resize

    return np.asarray(CenterCrop(_RULE.crop)(Resize(_RULE.size)(load_image(file))))


@pytest.mark.parametrize("prepare", [_ours, _reference], ids=["runtime", "reference"])
def test_file(benchmark: Any, prepare: Callable[[Path], NDArray[np.uint8]], file: Path) -> None:
    """Decode, remap, resize, crop."""
    pytest.importorskip("health_multimodal")
    benchmark.group = f"{file.name.split('.', 1)[1]} file → 480 × 480"
    assert np.array_equal(prepare(file), _reference(file))
    benchmark.pedantic(prepare, (file,), rounds=5, warmup_rounds=1)


def _by_pydicom(files: list[Path]) -> list[NDArray[np.uint8]]:
    """The same on the threads that there are, with pydicom's own choice of a decoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openjpeg, "decoder", pytest.importorskip("pydicom.pixels").get_decoder)
        return _on_two_threads(files)


def _on_two_threads(files: list[Path]) -> list[NDArray[np.uint8]]:
    found, faults = load_pixels(files, _RULE, threads=2)
    assert not faults
    return [each.pixels for each in found]


@pytest.mark.parametrize("load", [_on_two_threads, _by_pydicom], ids=["runtime", "pydicom's decoder"])
def test_archive(
    benchmark: Any, load: Callable[[list[Path]], list[NDArray[np.uint8]]], film: NDArray[np.uint16], tmp_path: Path
) -> None:
    """Four files of an archive side by side: decoders that keep Python's lock take turns."""
    benchmark.group = "four j2k.dcm files on two threads"
    files = [tmp_path / f"{index}.dcm" for index in range(4)]
    for index, file in enumerate(files):
        _write_jpeg_2000(film[:, :: 1 - 2 * (index % 2)], file)
    assert np.array_equal(load(files), _by_pydicom(files))
    benchmark.pedantic(load, (files,), rounds=3)


def _float64(values: NDArray[Any]) -> NDArray[np.uint8]:
    from health_multimodal.image.data.io import remap_to_uint8 as reference

    remapped: NDArray[np.uint8] = reference(values)
    return remapped


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("remap", [remap_to_uint8, _float64], ids=["runtime", "reference in float64"])
def test_remap(benchmark: Any, remap: Callable[..., NDArray[np.uint8]], bits: int, film: NDArray[np.uint16]) -> None:
    """Values → 0–255: fixed point up to 12 bits, a table beyond."""
    pytest.importorskip("health_multimodal")
    benchmark.group = f"remap {bits} bits"
    of_bits: dict[int, NDArray[Any]] = {8: (film >> 4).astype(np.uint8), 12: film, 16: film * 15}
    values = of_bits[bits]
    assert np.array_equal(remap(values), _float64(values))
    benchmark.pedantic(remap, (values,), rounds=5, warmup_rounds=1)


def _torchvision(image: Image.Image, rule: Preprocessing) -> NDArray[np.uint8]:
    from torchvision.transforms import CenterCrop, Resize

    return np.asarray(CenterCrop(rule.crop)(Resize(rule.size)(image)))


@pytest.mark.parametrize("way", [resize_and_crop, _torchvision], ids=["runtime", "torchvision"])
@pytest.mark.benchmark(group="resize and crop", max_time=0.3)
def test_resize_and_crop(benchmark: Any, way: Callable[..., NDArray[np.uint8]], film: NDArray[np.uint16]) -> None:
    """Both lead to Pillow's filter: what is around it must cost nothing."""
    image = Image.fromarray((film >> 4).astype(np.uint8))
    assert np.array_equal(way(image, _RULE), _torchvision(image, _RULE))
    benchmark(way, image, _RULE)
