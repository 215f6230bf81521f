"""DICOM files for tests: any pixel data, header and transfer syntax, and headers full of what must never be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from runtime.errors import DecodeError
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CANARY = "ZQX"
_CANARY_UID = "1.2.840.987654321"
_NAMES = ("PatientName", "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName", "OtherPatientNames")
_STRINGS = ("PatientID", "AccessionNumber", "InstitutionName", "InstitutionAddress", "StationName", "StudyID")
_STRINGS += ("StudyDescription", "SeriesDescription", "DeviceSerialNumber", "PatientComments", "ImageComments")
_STRINGS += ("ProtocolName", "Manufacturer", "OtherPatientIDs", "PatientAddress", "MilitaryRank", "IssuerOfPatientID")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
DATE, TIME = "19371231", "235951"


def header(array: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None, **elements: object) -> Dataset:
    """What describes the pixels of (H, W), (H, W, 3), or frames of those with NumberOfFrames, and `elements`."""
    image = Dataset()
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    image.SOPInstanceUID = f"{_CANARY_UID}.1"
    image.Modality = "CR"
    samples = 3 if photometric.startswith(("RGB", "YBR")) else 1
    image.Rows, image.Columns = array.shape[-3:-1] if samples == 3 else array.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = samples, photometric
    if samples == 3:
        image.PlanarConfiguration = 0
    image.BitsAllocated = 8 * array.dtype.itemsize
    image.BitsStored = bits or image.BitsAllocated
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, int(array.dtype.kind == "i")
    for name, value in elements.items():
        setattr(image, name, value)
    return image


def write(
    path: Path,
    image: Dataset,
    pixels: bytes | None,
    syntax: str = ExplicitVRLittleEndian,
    compressed: bool = False,
) -> Path:
    """Write a dataset with the bytes of its pixel data."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(syntax)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if pixels is not None:
        image.PixelData = pixels
        image["PixelData"].VR = "OW" if image.BitsAllocated > 8 else "OB"
        image["PixelData"].is_undefined_length = compressed
    private = {"implicit_vr": False, "little_endian": True} if UID(syntax).is_private else {}
    image.save_as(path, enforce_file_format=True, **private)
    return path


def write_dicom(
    path: Path, array: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None, **elements: object
) -> Path:
    """Write uncompressed pixels."""
    return write(path, header(array, photometric, bits, **elements), array.tobytes())


def write_compressed(path: Path, image: Dataset, frames: list[bytes], syntax: str) -> Path:
    """Write compressed frames, which may be empty or anything else, as one fragment each and without their offsets."""
    items = (b"", *(frame + b"\0" * (len(frame) % 2) for frame in frames))
    pixels = b"".join(b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item for item in items)
    return write(path, image, pixels, syntax, compressed=True)


def compress_by_gdcm(plain: Path, packed: Path, syntax: str) -> Path:
    """Compress a file by GDCM, which has encoders that pydicom has not."""
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed


def refusal(path: Path, **options: object) -> str:
    """What is said of a file that cannot be read with such `DicomOptions`."""
    with pytest.raises(DecodeError) as caught:
        read_array(path, DicomOptions(**options))
    return str(caught.value)


def identified(image: Dataset) -> Dataset:
    """Fill all that could name a patient, a place or a time with canaries."""
    for name in _NAMES:
        setattr(image, name, f"{CANARY}^{name}")
    for name in _STRINGS:
        setattr(image, name, f"{CANARY}{name}"[:16])
    for number, name in enumerate(_UIDS):
        setattr(image, name, f"{_CANARY_UID}.{number}")
    for name in _DATES:
        setattr(image, name, DATE)
    image.StudyTime = image.ContentTime = TIME
    image.PatientAge = "089Y"
    image.add_new((0x0009, 0x0010), "LO", f"{CANARY} PRIVATE")
    image.add_new((0x0009, 0x1001), "LO", f"{CANARY} VALUE")
    nested = Dataset()
    nested.PatientID = f"{CANARY}NESTED"
    image.RequestAttributesSequence = [nested]
    return image


CANARIES = (CANARY, _CANARY_UID, DATE, TIME, "089Y")
