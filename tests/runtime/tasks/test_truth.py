"""Tables of labels: how they are read, whose rows are whose, and figures against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from runtime.errors import InputError
from runtime.tasks.evaluation import evaluate
from runtime.tasks.truth import ABSENT, BLANK, PRESENT, UNCERTAIN, TruthTable, match_images, read_truth

LABELS = ("Edema", "Pneumonia", "Fracture")


def write(folder: Path, content: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(content, encoding="utf-8")
    return file


def table(*ids: str) -> TruthTable:
    return TruthTable(ids, ("Edema",), (), (), np.zeros((len(ids), 1), np.int8))


def pairs(*paths: str) -> list[tuple[str, str]]:
    return [(path, path) for path in paths]


def test_values_of_chexpert(tmp_path: Path) -> None:
    """As its tables have them, and as pandas writes them; columns in another order, other case, and others between."""
    file = write(
        tmp_path,
        '\ufeffPath,Sex,pneumonia , EDEMA\n"a,1.png",F,1.0,0\nb,M,-1.0,\n\nc,M,nan,1\nd,M, ,-1\n',
    )
    found = read_truth(file, LABELS, "Path")
    assert found.ids == ("a,1.png", "b", "c", "d")
    assert found.labels == ("Edema", "Pneumonia"), "in the order asked for"
    assert found.missing == ("Fracture",)
    assert found.unused == ("Sex",)
    expected = [[ABSENT, PRESENT], [BLANK, UNCERTAIN], [PRESENT, BLANK], [UNCERTAIN, BLANK]]
    assert found.values.tolist() == expected
    assert found.values.dtype == np.int8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'id' of ids; it has: nothing. Name the one .* --label-id-column"),
        ("Path,Edema\na,1\n", "no column 'id' of ids; it has: Path, Edema"),
        ("id,oedema\na,1\n", "no column for any of: Edema, Pneumonia, Fracture; it has: id, oedema"),
        ("id,Edema,edema\na,1,0\n", "the column 'Edema' twice"),
        ("id,id,Edema\na,b,0\n", "the column 'id' twice"),
        ("id,Edema\n", "have no rows"),
        ("id,Edema\na,1,1\n", "row 1: has 3 fields where the header has 2"),
        ("id,Edema\n ,1\n", "row 1: has no id in column 'id'"),
        ("id,Edema\na,1\nb,1\na,1\n", r"\[2\] row 3: its id 'a' came before, in row 1"),
        ("id,Edema\na,yes\n", r"row 1: column 'Edema' holds 'yes'; 1, 0, -1 \(uncertain\) or nothing"),
        ("id,Edema\na,0.5\n", "holds '0.5'"),
        ("id,Edema\na,2\n", "holds '2'"),
        ("id,Edema\na,inf\n", "holds 'inf'"),
        ('id,Edema\na,"1\n', r"not valid CSV near line 2 \(the quote that opens there never closes\)"),
        ('id,Edema\na,1\n"b,0\nc,"1"\n', "not valid CSV near line 3 .the quote that opens there closes in line 4"),
        ("id,Edema\na\n", "row 1: has 1 field where the header has 2"),
        ("id,Edema\na,0_1\n", "holds '0_1'"),
        ("id,Edema\na,１\n", "holds '１'"),
        ("id,Edema\n./a.png,1\na.png,0\n", r"\[1\] row 2: its id 'a.png' came before, in row 1"),
        ("id,Edema\na\0,1\n", "row 1: column 'id' holds a NUL"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_truth(write(tmp_path, content), LABELS, "id")


def test_all_bad_rows_are_listed_together(tmp_path: Path) -> None:
    file = write(tmp_path, "id,Edema,Pneumonia\na,x,y\nb,1,1\n,1,z\n")
    with pytest.raises(InputError) as caught:
        read_truth(file, LABELS, "id")
    assert [fault.index for fault in caught.value.faults] == [0, 2]
    assert "2 of 3 rows of" in str(caught.value)
    assert "holds 'x'" in caught.value.faults[0].reason
    assert "holds 'y'" in caught.value.faults[0].reason
    assert "has no id" in caught.value.faults[1].reason


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv cannot be read: No such file"):
        read_truth(tmp_path / "absent.csv", LABELS, "id")
    (tmp_path / "latin.csv").write_bytes("id,Edema\né,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="row 1: column 'id' is not UTF-8"):
        read_truth(tmp_path / "latin.csv", LABELS, "id")
    (tmp_path / "wide.csv").write_bytes("id,Edema\na,1\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"the file is UTF-16 or UTF-32\. Save it as UTF-8"):
        read_truth(tmp_path / "wide.csv", LABELS, "id")


def test_labels_are_read_whatever_the_file_is_called_and_whatever_else_it_holds(tmp_path: Path) -> None:
    """A cell of any size, and bytes that are no UTF-8, in a column that no label has."""
    file = tmp_path / "labels"
    file.write_bytes(b"id,note,Edema\ra,\xe9" + b"0" * 200_000 + b",1\rb,,0\r")
    found = read_truth(file, LABELS, "id")
    assert (found.ids, found.values.tolist()) == (("a", "b"), [[PRESENT], [ABSENT]])


@pytest.mark.parametrize(
    ("image", "row"),
    [
        ("/data/valid/p1/frontal.png", "/data/valid/p1/frontal.png"),
        ("/data/valid/p1/frontal.png", "valid/p1/frontal.png"),
        ("/data/valid/p1/frontal.png", "p1/frontal"),
        ("/data/valid/p1/frontal.png", "./p1/frontal.png"),
        ("/data/valid/p1/frontal.png", "p1\\frontal.png"),
        ("/data/frontal.nii.gz", "frontal"),
        ("/data/1.2.840.113619", "1.2.840.113619"),
        ("/data/1.2.840.113619.dcm", "1.2.840.113619"),
        ("films/a.png", f"{Path.cwd().name}/films/a.png"),
        ("../a.png", f"{Path.cwd().parent.name}/a.png"),
    ],
)
def test_an_image_has_the_row_of_its_path_or_of_its_end(image: str, row: str) -> None:
    found = match_images(table("other", row), pairs(image, "/data/none.png"))
    assert found.row_of == {image: 1}
    assert found.unlabelled == ("/data/none.png",)
    assert found.unused == ("other",)
    assert found.ambiguous == ()


@pytest.mark.parametrize(
    ("image", "row"),
    [
        ("/data/p1/frontal.png", "rontal.png"),
        ("/data/p1/frontal.png", "p2/frontal.png"),
        ("/data/p1/frontal.png", "p1"),
        ("/data/1.2.840.113619", "1.2.840"),
        ("/data/a.png", "a.jpg"),
        ("/data/a.png", "A.png"),
    ],
)
def test_nothing_else_is_taken_for_it(image: str, row: str) -> None:
    found = match_images(table(row), pairs(image))
    assert found.row_of == {}
    assert found.unlabelled == (image,)
    assert found.unused == (row,)


def test_the_longest_end_counts() -> None:
    found = match_images(table("a", "a.png", "p1/a", "p1/a.png"), pairs("/x/p1/a.png", "/x/p2/a.png"))
    assert found.row_of == {"/x/p1/a.png": 3, "/x/p2/a.png": 1}
    assert found.unused == ("a", "p1/a")


def test_images_that_share_the_end_of_their_path_share_no_row() -> None:
    images = ("/x/p1/a.png", "/x/p2/a.png", "/x/b.png", "c.png", "/y/c.png")
    found = match_images(table("a.png", "b.png", "c.png"), pairs(*images))
    assert found.row_of == {"/x/b.png": 1, "c.png": 2}, "c.png has it by its id"
    assert found.ambiguous == ("/x/p1/a.png", "/x/p2/a.png", "/y/c.png")
    assert found.unused == ()


def test_an_id_that_was_given_counts_whole() -> None:
    found = match_images(table("a", "study7"), [("study7", None), ("x/a", None)])
    assert found.row_of == {"study7": 1}
    assert found.unlabelled == ("x/a",)


def test_figures_equal_scikit_learn_on_what_is_known() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([PRESENT, ABSENT, UNCERTAIN, BLANK], (200, 3)).astype(np.int8)
    probabilities = (0.5 + 0.1 * truth * (truth >= 0) + rng.normal(0, 0.1, (200, 3))).astype(np.float32).clip(0, 1)
    found = evaluate(LABELS, truth, probabilities)
    for column, each in enumerate(found.labels):
        known = truth[:, column] >= 0
        expected, scores = truth[known, column], probabilities[known, column]
        assert each.label == LABELS[column]
        assert (each.images, each.positives) == (known.sum(), expected.sum())
        assert each.uncertain == (truth[:, column] == -1).sum()
        assert each.blank == 200 - each.images - each.uncertain
        assert each.auroc == pytest.approx(roc_auc_score(expected, scores), abs=1e-12)
        assert each.accuracy == accuracy_score(expected, scores > 0.5)
    assert found.mean_auroc == pytest.approx(np.mean([each.auroc for each in found.labels]))
    assert found.mean_accuracy == pytest.approx(np.mean([each.accuracy for each in found.labels]))


def test_what_is_not_defined_is_left_out_of_the_means() -> None:
    """Edema: 1 of 2 pairs won and 2 of 3 right. Pneumonia: only positives. Fracture: nothing known."""
    truth = np.array([[1, 1, -1], [0, 1, -2], [0, -1, -1]], np.int8)
    probabilities = np.array([[0.6, 0.4, 0.9], [0.7, 0.5, 0.9], [0.2, 0.9, 0.9]], np.float32)
    edema, pneumonia, fracture = evaluate(LABELS, truth, probabilities).labels
    assert (edema.auroc, edema.accuracy) == (0.5, 2 / 3)
    assert (pneumonia.images, pneumonia.positives, pneumonia.auroc, pneumonia.accuracy) == (2, 2, None, 0)
    assert (fracture.images, fracture.auroc, fracture.accuracy) == (0, None, None)
    assert (fracture.uncertain, fracture.blank) == (2, 1)
    found = evaluate(LABELS, truth, probabilities)
    assert (found.mean_auroc, found.mean_accuracy) == (0.5, (2 / 3 + 0) / 2)
    nothing = evaluate(LABELS, truth[:0], probabilities[:0])
    assert (nothing.mean_auroc, nothing.mean_accuracy) == (None, None)


def test_shapes_that_do_not_go_together() -> None:
    for truth, probabilities in (((3, 3), (2, 3)), ((3, 2), (3, 2))):
        with pytest.raises(InputError, match="came for 3 labels"):
            evaluate(LABELS, np.zeros(truth, np.int8), np.zeros(probabilities, np.float32))


def test_paths_are_not_followed(tmp_path: Path) -> None:
    """A link's own name counts: data sets are often folders of links."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "0001.png").touch()
    link = tmp_path / "a.png"
    link.symlink_to(tmp_path / "store" / "0001.png")
    assert match_images(table("a"), pairs(str(link))).row_of == {str(link): 0}
