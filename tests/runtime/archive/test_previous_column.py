"""`embed` of tables with a column of previous images, on a handmade graph of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.bundle import PAIR
from tests.conftest import edit_json
from tests.runtime.archives import embed, rejects
from tests.runtime.handmade import artifact, fp32, write_bundle

parquet = pytest.importorskip("pyarrow.parquet")
COLUMNS = ("--image-column", "now", "--previous-column", "before", "--id-column", "study")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pair = artifact("fp32", name="pair_fp32", role=PAIR)
    return write_bundle(tmp_path_factory.mktemp("pairs") / "bundle", [fp32()], [fp32(), pair])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three studies, one without a previous image and one whose previous image is not there."""
    for index in range(3):
        Image.fromarray(chest_phantom(150, 140 + index, index)).save(tmp_path / f"{index}.png")
    rows = ["study,now,before", "a,0.png,1.png", "b,1.png,", "c,2.png,gone.png"]
    (tmp_path / "studies.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "studies.csv"


def test_rows_are_of_both_images(bundle: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "studies.npy"
    assert embed(bundle, table, *COLUMNS, "--out", out) == 1
    assert "[2] c: " in (message := capsys.readouterr().err)
    assert f"{tmp_path / 'gone.png'} (the previous image): " in message
    assert embed(bundle, table, *COLUMNS, "--out", out, "--skip-bad") == 0
    assert (tmp_path / "studies.ids.txt").read_text().split() == ["a", "b"]
    image = runtime.load(bundle, provider="cpu").image
    films = [str(tmp_path / f"{index}.png") for index in range(2)]
    expected = image.encode(films, [films[1], None])
    assert np.abs(np.load(out) - expected).max() <= 1e-6
    assert np.abs(expected[0] - image.encode(films[0])[0]).max() > 0.01


def test_a_folder_knows_its_previous_images(
    bundle: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, arguments = tmp_path / "out", (table, *COLUMNS, "--out", tmp_path / "out", "--part-rows", 1)
    assert embed(bundle, *arguments) == 0
    assert [line["id"] for line in rejects(out)] == ["c"]
    assert "gone.png (the previous image)" in str(rejects(out)[0]["reason"])
    capsys.readouterr()
    assert embed(bundle, table, *COLUMNS[:2], *COLUMNS[4:], "--out", out, "--part-rows", 1, "--resume") == 1
    assert "previous" in capsys.readouterr().err
    for changed in (False, True):
        edit_json(out / "_job.json", lambda job: job.update(finished=None))
        for number in (1, 2):
            (out / f"part-{number:05d}.parquet").unlink()
        if changed:  # of the first study the previous image, of the second the current one
            Image.fromarray(chest_phantom(150, 141, 9)).save(tmp_path / "1.png")
        assert embed(bundle, *arguments, "--resume") == changed
        assert ("cannot be resumed: items 0 to 0" in capsys.readouterr().err) == changed


def test_what_does_not_go_together_is_refused(
    bundle: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "studies.npy")
    assert embed(bundle, table, "--column", "study", "--previous-column", "before", *out) != 0
    assert "--previous-column goes with --image-column" in capsys.readouterr().err
    single = write_bundle(tmp_path / "single", [fp32()], [fp32()])
    assert embed(single, table, *COLUMNS, *out) == 1
    assert "'biovil' embeds one image at a time" in capsys.readouterr().err
    assert embed(bundle, table, *COLUMNS[:2], "--previous-column", "prior", *out) == 1
    assert "has no column 'prior'" in capsys.readouterr().err
    assert not (tmp_path / "studies.npy").exists()
