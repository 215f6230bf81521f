"""Nothing that identifies a patient leaves a header: not through outputs, logs, warnings or errors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.image.decoders import read_array
from runtime.image.dicom_options import DicomOptions
from runtime.process.silence import Silence
from tests.runtime.handmade import fp32, write_bundle

pydicom = pytest.importorskip("pydicom")
parquet = pytest.importorskip("pyarrow.parquet")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless  # noqa: E402

from tests.runtime.dicoms import CANARIES, CANARY, header, identified, write, write_compressed, write_dicom  # noqa: E402

FILM = chest_phantom(140, 120).astype(np.uint16) * 16


def image(**elements: object) -> Dataset:
    return identified(header(FILM, bits=12, **elements))


def plain(path: Path, **elements: object) -> Path:
    return write(path, image(**elements), FILM.tobytes())


def overwritten(path: Path, old: bytes, new: bytes) -> Path:
    """A whole file with some bytes of its header replaced."""
    content = plain(path, NumberOfFrames=1, RescaleSlope="1", RescaleIntercept="0", PixelPaddingValue=7).read_bytes()
    assert content.count(old) == 1, old
    path.write_bytes(content.replace(old, new))
    return path


def bare(path: Path, **elements: object) -> Path:
    content = plain(path, **elements).read_bytes()
    path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    return path


def without_pixels(path: Path, kind: str) -> Path:
    document = image()
    document.SOPClassUID = kind
    return write(path, document, None)


CANARY_UID = "1.2.840.987654321.77"
GOOD: dict[str, Callable[[Path], Path]] = {
    "plain": plain,
    "of another modality": lambda path: plain(path, Modality="CT"),
    "with a canary for its modality": lambda path: plain(path, Modality=CANARY),
    "without a header": bare,
    "with a window": lambda path: plain(
        path, WindowCenter="900", WindowWidth="900", WindowCenterWidthExplanation=CANARY
    ),
    "turned over": lambda path: plain(path, RescaleSlope="-1", RescaleIntercept="4000"),
    "with a broken slope": lambda path: overwritten(path, b"\x28\0\x53\x10DS\2\x001 ", b"\x28\0\x53\x10DS\2\x00ZQ"),
    "with an unknown character set": lambda path: plain(path, SpecificCharacterSet=f"{CANARY} 1"),
    "with a broken date": lambda path: overwritten(
        path, b"\x08\0\x20\0DA\x08\x0019371231", b"\x08\0\x20\0DA\x08\x00ZQX.NODA"
    ),
}
BROKEN: dict[str, Callable[[Path], Path]] = {
    "cut off": lambda path: write(path, image(), FILM.tobytes()[:600]),
    "several frames": lambda path: write(path, image(NumberOfFrames=2), FILM.tobytes() * 2),
    "a canary for its photometric interpretation": lambda path: plain(path, PhotometricInterpretation=CANARY),
    "a canary for its frames": lambda path: overwritten(path, b"IS\2\x001 ", b"IS\2\x00ZQ"),
    "a canary for its transfer syntax": lambda path: write(path, image(), FILM.tobytes(), CANARY_UID),
    "a canary for its kind": lambda path: without_pixels(path, CANARY_UID),
    "a report": lambda path: without_pixels(path, "1.2.840.10008.5.1.4.1.1.88.11"),
    "an encapsulated PDF": lambda path: without_pixels(path, "1.2.840.10008.5.1.4.1.1.104.1"),
    "no header and cut": lambda path: (bare(path), path.write_bytes(path.read_bytes()[:900]), path)[-1],
    "a header alone": lambda path: (plain(path), path.write_bytes(path.read_bytes()[:700]), path)[-1],
    **{
        f"broken {syntax.name}": lambda path, syntax=syntax: write_compressed(
            path, image(), [CANARY.encode() * 40], syntax
        )
        for syntax in (JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless)
    },
}


def write_all(folder: Path) -> tuple[list[Path], list[Path]]:
    folder.mkdir()
    return tuple(
        [
            make(folder / f"{'good' if kind is GOOD else 'bad'}-{number}.dcm")
            for number, make in enumerate(kind.values())
        ]
        for kind in (GOOD, BROKEN)
    )  # type: ignore[return-value]


def leaks(content: str | bytes) -> list[str]:
    text = content if isinstance(content, str) else content.decode("latin-1")
    return [canary for canary in CANARIES if canary in text]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", text=[fp32()], image=[fp32()])


@pytest.mark.slow
@pytest.mark.parametrize("voi_lut", [[], ["--voi-lut"]])
def test_no_output_of_the_command_line_names_a_patient(
    bundle: Path,
    tmp_path: Path,
    voi_lut: list[str],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    good, bad = write_all(tmp_path / "films")
    caplog.clear()
    recwarn.clear()
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        films = str(tmp_path / "films")
        for name, more in (
            ("parts", []),
            ("one.npy", ["--rejects", str(out / "r.jsonl")]),
            ("one.parquet", ["--skip-bad"]),
        ):
            assert main(["embed", str(bundle), films, "--out", str(out / name), *more, *voi_lut]) == 0
        singly = (*good, *bad) if not voi_lut else good[:1]
        for number, file in enumerate(singly):
            status = main(["similarity", str(bundle), str(file), "effusion", *voi_lut])
            assert status == int(file in bad), file.name
            status = main(["ground", str(bundle), str(file), "effusion", "--out", str(out / f"{number}.png"), *voi_lut])
            assert status == int(file in bad), file.name
    written = [file for file in sorted(out.rglob("*")) if file.is_file()]
    assert len(written) >= 6 + (len(good) if not voi_lut else 1)
    for file in written:
        assert not leaks(file.read_bytes()), file.name
        if file.suffix == ".parquet":
            table = parquet.read_table(file)
            assert table.num_rows == len(good)
            assert not leaks(f"{table.drop(['embedding']).to_pydict()} {table.schema.metadata}")
    captured = capfd.readouterr()
    assert "is no radiograph by its modality (CT)" in caplog.text, "what is said is seen here"
    for said in (captured.out, captured.err, caplog.text, *(str(each.message) for each in recwarn)):
        assert not leaks(said), said


@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_negative_control_pydicom_itself_would_tell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = write_all(tmp_path / "films")
    caplog.clear()
    told = []
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for file in (*good, *bad):
            assert leaks(file.read_bytes()), file.name
            try:
                dataset = pydicom.dcmread(file, force=True)
                str(dataset)
                _ = dataset.pixel_array
            except Exception as error:
                told.append(str(error))
    assert any(map(leaks, told))
    assert any(leaks(str(each.message)) for each in caught)
    assert leaks(caplog.text)


def test_identifying_elements_are_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **options: read.append(real(*args, **options)) or read[-1])
    read_array(plain(tmp_path / "a.dcm"), DicomOptions())
    (dataset,) = read
    kept = {element.keyword for element in dataset}
    assert {"Rows", "Modality", "PixelData"} <= kept
    assert not kept & {"PatientName", "PatientID", "StudyDate", "AccessionNumber", "SOPInstanceUID", "InstitutionName"}
    dataset.PixelData = b""
    assert not leaks(str(dataset).replace(str(dataset.file_meta), ""))


def test_what_pydicom_logs_stays_inside_even_where_a_program_logs_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its modules have loggers of their own, which pass records on past a logger that is only disabled."""
    from pydicom.pixels.decoders import base

    file = write_compressed(tmp_path / "a.dcm", image(), [b"\xff\x4f\xff\x51" + b"\0" * 60], JPEG2000Lossless)
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="broken or cut off"):
        read_array(file, DicomOptions())
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG), pytest.raises(RuntimeError):
        _ = pydicom.dcmread(file).pixel_array
    assert any(record.name == base.LOGGER.name for record in caplog.records), "as it does outside"


def test_threads_leave_warnings_and_log_as_they_were(tmp_path: Path) -> None:
    logger, silence = logging.getLogger("pydicom"), Silence()

    def state() -> tuple[object, ...]:
        return logger.propagate, list(logger.handlers), list(warnings.filters)

    before = state()
    with ThreadPoolExecutor(1) as other:  # which enters first and leaves last
        other.submit(silence.__enter__).result()
        with silence:
            assert not logger.propagate
        assert not logger.propagate, "the other is still reading"
        other.submit(silence.__exit__).result()
    assert state() == before
    files = [write_dicom(tmp_path / f"{index}.dcm", FILM + index) for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda file: read_array(file, DicomOptions()), files))
    assert all(np.array_equal(array, FILM + index) for index, array in enumerate(arrays))
    assert state() == before
