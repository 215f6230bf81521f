"""Pictures to send: small PNG files, and radiographs of full size as JPEG and DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["write_dicoms", "write_pngs"]

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def write_pngs(folder: Path, count: int, seed: int) -> list[Path]:
    """Small phantoms of a chest, all different."""
    from export.samples import chest_phantom

    paths = []
    for number in range(count):
        path = folder / f"{number:03}.png"
        Image.fromarray(chest_phantom(512 + 16 * (number % 5), 448, seed + number)).save(path)
        paths.append(path)
    return paths


def write_dicoms(folder: Path, pictures: Sequence[str]) -> list[Path]:
    """The same pictures as DICOM of 12 bits in 16, uncompressed: 10 MB for 2,500 × 2,048 pixels.

    Raises:
        ModuleNotFoundError: pydicom is not installed.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    paths = []
    for number, picture in enumerate(pictures):
        with Image.open(picture) as opened:
            pixels = np.asarray(opened.convert("L"), np.uint16) << 4
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = _SECONDARY_CAPTURE
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
        image.Modality, image.PhotometricInterpretation = "DX", "MONOCHROME2"
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PixelRepresentation = 1, 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelData = pixels.tobytes()
        path = folder / f"{number:04}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
