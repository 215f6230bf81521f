"""RadNLI and triplets on small files, against scikit-learn on PyTorch's own embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import runtime
from bench.__main__ import main
from bench.quality.radnli import best_threshold
from export.samples import SENTENCES, TRIPLETS
from runtime.files import sha256_file
from tests.conftest import System, edit_json

OPTIONS = ("--provider", "cpu", "--precision", "fp32")
_PAIRS = [
    *((text, synonym, "entailment") for text, synonym, _ in TRIPLETS),
    *((text, contradiction, "contradiction") for text, _, contradiction in TRIPLETS),
    *((SENTENCES[index], SENTENCES[index + 9], "neutral") for index in range(15, 22)),
    *((SENTENCES[index], SENTENCES[index + 3], "contradiction") for index in range(15, 22)),
    *((SENTENCES[index], SENTENCES[index], "entailment") for index in range(15, 17)),
]


def write_pairs(path: Path, pairs=_PAIRS, *more: str) -> Path:
    """As PhysioNet's files: keys that nobody asked for among those that count."""
    rows = [
        {"pair_id": str(number), "sentence1": first, "sentence2": second, "gold_label": label}
        for number, (first, second, label) in enumerate(pairs)
    ]
    path.write_text("\n".join([*map(json.dumps, rows), *more]) + "\n", encoding="utf-8")
    return path


def reference_scores(checkpoint: Path, pairs) -> tuple[list[bool], np.ndarray]:
    from tests.oracle import reference_text_engine

    chosen = [pair for pair in pairs if pair[2] != "neutral"]
    engine = reference_text_engine(checkpoint)
    scores = engine.get_pairwise_similarities([pair[0] for pair in chosen], [pair[1] for pair in chosen]).numpy()
    return [label == "entailment" for _, _, label in chosen], scores


def quality(capsys, *arguments: object) -> dict:
    assert main(["quality", *map(str, arguments), *OPTIONS, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_radnli_equals_scikit_learn_on_the_reference_scores(tiny: System, tmp_path: Path, capsys) -> None:
    data, dev = write_pairs(tmp_path / "test.jsonl"), write_pairs(tmp_path / "dev.jsonl", _PAIRS[3:-1])
    truth, scores = reference_scores(tiny.checkpoint, _PAIRS)
    report = quality(capsys, "radnli", tiny.bundle, "--data", data, "--dev", dev, "--checkpoint", tiny.checkpoint)
    assert report["data"] == {"file": "test.jsonl", "entailment": 7, "neutral": 7, "contradiction": 12, "skipped": 0}
    assert report["dev"]["entailment"] == 3
    assert report["largest_difference"] <= 1e-5
    assert list(report["results"]) == ["this engine (cpu, fp32)", "PyTorch fp32"]
    dev_truth, dev_scores = reference_scores(tiny.checkpoint, _PAIRS[3:-1])
    for found in report["results"].values():
        assert found["roc_auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
        assert found["accuracy"] == accuracy_score(truth, scores >= found["threshold"])
        best = max(accuracy_score(dev_truth, dev_scores >= each) for each in [*dev_scores, 2])
        assert accuracy_score(dev_truth, dev_scores >= found["threshold"]) == best
    alone = quality(capsys, "radnli", tiny.bundle, "--data", data)
    (ours,) = alone["results"].values()
    assert "upper bound" in alone["threshold_set_on"]
    assert ours["accuracy"] == max(accuracy_score(truth, scores >= each) for each in [*scores, 2])
    assert alone["largest_difference"] is None


def test_a_shuffled_label_changes_the_figures(tiny: System, tmp_path: Path, capsys) -> None:
    flipped = {"entailment": "contradiction", "contradiction": "entailment", "neutral": "neutral"}
    data = write_pairs(tmp_path / "a.jsonl")
    inverse = write_pairs(tmp_path / "b.jsonl", [(a, b, flipped[label]) for a, b, label in _PAIRS])
    (right,) = quality(capsys, "radnli", tiny.bundle, "--data", data)["results"].values()
    (wrong,) = quality(capsys, "radnli", tiny.bundle, "--data", inverse)["results"].values()
    assert right["roc_auc"] == pytest.approx(1 - wrong["roc_auc"])
    assert right["roc_auc"] != wrong["roc_auc"]


def test_the_threshold_by_hand() -> None:
    truth = np.array([False, False, True, False, True, True])
    scores = np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    assert best_threshold(truth, scores) == pytest.approx(0.25), "5 of 6 right, as at 0.6; the smaller one"
    assert best_threshold(truth[:2], scores[:2]) > scores[1], "only negatives"
    assert best_threshold(truth[4:], scores[4:]) == scores[4], "only positives"
    same = np.full(5, 0.5)
    assert best_threshold(np.array([True, False, False, False, False]), same) > 0.5
    close = np.float32([0.3, np.nextafter(np.float32(0.3), np.float32(1))]).astype(np.float64)
    assert close[0] < best_threshold(np.array([False, True]), close) < close[1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        truth, scores = rng.random(30) < 0.4, rng.integers(0, 12, 30).astype(np.float64)
        found = accuracy_score(truth, scores >= best_threshold(truth, scores))
        assert found == max(accuracy_score(truth, scores >= each) for each in [*scores, 99])


def test_lines_that_cannot_be_used_are_all_listed_and_counted(tiny: System, tmp_path: Path, capsys) -> None:
    bad = (
        "{not json",
        '{"sentence1": "x", "gold_label": "entailment"}',
        '{"sentence1": "x", "sentence2": "y", "gold_label": "-"}',
        '{"sentence1": 3, "sentence2": " ", "gold_label": "entailment"}',
        '{"sentence1": "x [SEP]", "sentence2": "y", "gold_label": "neutral"}',
        "[1, 2]",
    )
    data = write_pairs(tmp_path / "test.jsonl", _PAIRS, *bad)
    first = len(_PAIRS) + 1
    assert main(["quality", "radnli", str(tiny.bundle), "--data", str(data), *OPTIONS]) == 1
    message = capsys.readouterr().err
    assert f"6 of {first + 5} lines cannot be used" in message
    for number, reason in enumerate(
        (
            "is not valid JSON",
            "has no key 'sentence2'; it has: sentence1, gold_label",
            "'gold_label' is '-', expected is one of: entailment, neutral, contradiction",
            "'sentence1' is a int, a sentence is expected; 'sentence2' is empty",
            "contains the special token [SEP]",
            "is not a JSON object",
        )
    ):
        assert any(f"line {first + number}" in line and reason in line for line in message.splitlines()), reason
    assert main(["quality", "radnli", str(tiny.bundle), "--data", str(data), *OPTIONS, "--skip-bad"]) == 0
    captured = capsys.readouterr()
    assert "left out: 7 neutral, 6 unusable" in captured.out
    assert f"Left out: {data}: 6 of" in captured.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("one.jsonl", '{"sentence1": "x", "sentence2": "y", "gold_label": "entailment"}', "no pair of contradiction"),
        ("empty.jsonl", "", "holds no rows"),
        ("gone.jsonl", None, "No such file"),
        ("pairs.txt", "x", "suffix '.txt'"),
        ("a.csv", "sentence1,sentence2,gold_label\nx,y, z,neutral\n", "line 1: has 4 fields where the header has 3"),
        ("a.csv", 'sentence1,sentence2,gold_label\nx,"y,neutral\n', "near line 2 (the quote that opens there never"),
        ("a.csv", "sentence1,sentence2\nx,y\n", "has no column 'gold_label'; it has: sentence1, sentence2"),
        ("a.csv", "sentence1,sentence1,sentence2,gold_label\n", "has the column 'sentence1' 2 times"),
        ("a.jsonl", '{"sentence1": "\\ud800", "sentence2": "y", "gold_label": "neutral"}', "'sentence1' holds half of"),
    ],
)
def test_files_that_cannot_be_used(tiny: System, tmp_path: Path, capsys, name, content, message) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["quality", "radnli", str(tiny.bundle), "--data", str(tmp_path / name), *OPTIONS]) == 1
    assert message in capsys.readouterr().err


def test_triplets_equal_the_reference(tiny: System, tmp_path: Path, capsys) -> None:
    from tests.oracle import reference_text_engine

    file = tmp_path / "triplets.csv"
    rows = [*TRIPLETS, *((b, c, a) for a, b, c in TRIPLETS), ("same", "x", "x")]
    file.write_text(
        "contradiction,reference,synonym\n" + "\n".join(f'"{c}","{a}","{b}"' for a, b, c in rows), encoding="utf-8"
    )
    engine = reference_text_engine(tiny.checkpoint)
    columns = [list(column) for column in zip(*rows, strict=True)]
    synonym, contradiction = (engine.get_pairwise_similarities(columns[0], columns[side]) for side in (1, 2))
    expected = (synonym > contradiction).numpy()
    expected[-1] = False  # equal texts, equal cosines: not closer
    report = quality(capsys, "triplets", tiny.bundle, "--data", file, "--checkpoint", tiny.checkpoint)
    assert report["triplets"] == 11
    assert report["largest_difference"] <= 1e-5
    ours = report["results"]["this engine (cpu, fp32)"]
    assert ours["accuracy"] == pytest.approx(expected.mean())
    assert ours["wrong_lines"] == [int(index) + 1 for index in np.flatnonzero(~expected)]
    assert ours["mean_margin"] == pytest.approx(float((synonym - contradiction).mean()), abs=1e-5)


def test_triplets_of_the_reference_are_built_in(tiny: System, capsys) -> None:
    assert main(["quality", "triplets", str(tiny.bundle), *OPTIONS]) == 0
    captured = capsys.readouterr()
    assert "5 triplets of the reference's triplets" in captured.out
    assert captured.out.count("contradiction ") == 5
    assert "Random weights" in captured.err


def test_masked_tokens_of_a_file(tiny: System, tiny_copy: Path, tmp_path: Path, capsys) -> None:
    """Random weights put one token first whatever the text is; here it is given to a word, so that some are found."""
    first = runtime.load(tiny.bundle, provider="cpu", precision="fp32").text.fill_mask("no [MASK] effusion", top_k=1)
    swap_words(tiny_copy, first[0]["token"], "pleural")
    file = tmp_path / "notes.txt"
    file.write_text("\n".join([*SENTENCES[:20], "", "   ", "[MASK] here", "[SEP]"]) + "\n", encoding="utf-8")
    assert main(["quality", "masked", str(tiny_copy), "--data", str(file), *OPTIONS]) == 1
    assert "2 of 22 texts" in capsys.readouterr().err
    options = ("masked", tiny_copy, "--data", file, "--skip-bad", "--checkpoint", tiny.checkpoint)
    report = quality(capsys, *options, "--one-at-a-time")
    assert (report["texts"], report["skipped"]) == (20, 2)
    ours, theirs = report["results"].values()
    assert ours == theirs
    words = " ".join(SENTENCES[:20]).lower().replace(".", " ").split()
    assert 0 < ours["correct"] <= words.count("pleural") < ours["masked"]
    assert ours["accuracy"] == ours["correct"] / ours["masked"]
    some, same = quality(capsys, *options, "--masked-share", "0.3", "--seed", 4)["results"].values()
    assert some == same
    assert some["masked"] < ours["masked"] / 2


def swap_words(bundle: Path, token: int, word: str) -> None:
    """Exchange the ids of a token and a word in a bundle's tokenizer."""
    file = bundle / "text" / "tokenizer.json"

    def swap(tokenizer: dict) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        other = next(name for name, number in vocabulary.items() if number == token)
        vocabulary[other], vocabulary[word] = vocabulary[word], vocabulary[other]

    edit_json(file, swap)
    entry = {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    edit_json(bundle / "manifest.json", lambda manifest: manifest["files"].update({"text/tokenizer.json": entry}))


def test_a_checkpoint_of_other_weights_is_refused(tiny: System, tmp_path: Path, capsys) -> None:
    other = Path(shutil.copytree(tiny.checkpoint, tmp_path / "checkpoint"))
    with (other / "pytorch_model.bin").open("ab") as stream:
        stream.write(b"\0")
    for folder, name in ((other, "pytorch_model.bin"), (tmp_path / "gone", "biovil_image_resnet50_proj_size_128.pt")):
        assert main(["quality", "triplets", str(tiny.bundle), "--checkpoint", str(folder), *OPTIONS]) == 1
        message = capsys.readouterr().err
        assert "does not hold the weights that the bundle was made of" in message
        assert name in message
