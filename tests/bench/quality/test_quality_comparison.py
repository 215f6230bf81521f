"""`bench quality compare`: reports of several bundles as one table, cited figures beside measured ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.quality import QUALITY
from bench.quality.comparison.published import PUBLISHED, data_sets
from bench.quality.comparison.tables import TASKS, compare, read_reports
from runtime.errors import InputError
from runtime.files.replaceable import wrote
from tests.bench.ms_cxr import write_csv, write_films
from tests.runtime.handmade import artifact, write_bundle


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """MS-CXR's of two bundles of other weights."""
    folder = tmp_path_factory.mktemp("reports")
    annotations, films = write_csv(folder / "annotations.csv"), write_films(folder / "films")
    found = []
    for name in ("one", "other"):
        kept = artifact("fp32", name=f"model_{name}")
        bundle = write_bundle(folder / name, [kept], [kept])
        file = folder / f"{name}.json"
        command = ["quality", "ms-cxr", str(bundle), "--annotations", str(annotations), "--images", str(films)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.quality.ms_cxr.print_json", lambda report, to=file: to.write_text(json.dumps(report)))
            assert main([*command, "--provider", "cpu", "--json"]) == 0
        found.append(file)
    return found


def compared(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["quality", "compare", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_measured_rows_stand_beside_the_papers(reports: list[Path], capsys) -> None:
    table = json.loads(compared(capsys, *reports, "--json"))
    assert table["task"] == "ms-cxr"
    measured = [row for row in table["rows"] if row["measured"]]
    assert [row["source"] for row in measured] == [str(path) for path in reports]
    for row, path in zip(measured, reports, strict=True):
        report = json.loads(path.read_text())
        ((name, results),) = report["results"].items()
        assert row["system"] == f"biovil, {name}"
        mean = results["mean of the findings"]
        for title, key in (("CNR", "cnr"), ("|CNR|", "absolute_cnr"), ("mIoU", "miou"), ("pointing", "pointing")):
            assert row["figures"][title]["value"] == mean[key]
    assert measured[0]["figures"] != measured[1]["figures"]
    cited = [row for row in table["rows"] if not row["measured"]]
    boecking = {row["system"]: row["figures"]["|CNR|"]["value"] for row in cited if "Boecking" in row["source"]}
    assert {name: boecking[name] for name in ("BioViL", "GLoRIA", "ConVIRT")} == {
        "BioViL": 1.027, "GLoRIA": 0.930, "ConVIRT": 0.818
    }  # fmt: skip
    bannur = {row["system"]: row["figures"]["CNR"]["value"] for row in cited if "Bannur" in row["source"]}
    assert bannur["BioViL-T"] == 1.33
    assert not any(row["measured"] for row in json.loads(compared(capsys, *reports, "--json"))["rows"][2:])
    assert len(json.loads(compared(capsys, *reports, "--json", "--published", "none"))["rows"]) == 2


def test_the_terminal_and_markdown_show_the_same_table(reports: list[Path], tmp_path: Path, capsys) -> None:
    out = tmp_path / "table.md"
    printed = compared(capsys, *reports, "--out", out)
    assert re.search(r"^GLoRIA +– +0\.930 +– +– +published: Boecking et al\., ECCV 2022", printed, re.MULTILINE)
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    assert rows[0] == [" system ", " CNR ", r" \|CNR\| ", " mIoU ", " pointing ", " source "]
    assert {len(row) for row in rows} == {6}
    assert any(row[0] == " GLoRIA " and row[2] == " 0.930 " for row in rows)
    best = [row[2].strip() for row in rows if "**" in row[2]]
    table = json.loads(compared(capsys, *reports, "--json"))
    figures = [row["figures"]["|CNR|"]["value"] for row in table["rows"] if row["measured"]]
    assert best == [f"**{max(figures):.3f}**"], "the best of what was measured, not of what was published"
    assert wrote(out)
    assert "table → " in compared(capsys, *reports, "--out", out), "its own file is replaced"


def test_other_data_and_random_weights_are_said(reports: list[Path], tmp_path: Path, capsys) -> None:
    other = json.loads(reports[1].read_text()) | {"phrases": 3, "weights": "random"}
    (tmp_path / "changed.json").write_text(json.dumps(other))
    printed = compared(capsys, reports[0], tmp_path / "changed.json")
    assert "not the same data, so that figures do not compare: phrases is 4 (" in printed
    assert "random weights, whose figures mean nothing: " in printed
    assert "not the same data" not in compared(capsys, *reports)


def made_up(task: str, results: dict) -> dict:
    return {"task": task, "family": "clip", "weights": "folder", "results": {"this engine": results}}


def test_intervals_and_tasks_where_less_is_better() -> None:
    figures = {
        name: {"value": 0.8, "low": 0.7, "high": 0.9} for name in ("accuracy", "balanced_accuracy", "mean_auroc")
    }
    found = compare([made_up("zero-shot", figures)], ["a"], "rsna")
    assert (found.rows[0].values[0].low, found.rows[0].values[0].high) == (0.7, 0.9)
    assert [(row.system, row.values[0].value) for row in found.rows[1:]] == [("BiomedCLIP", 0.7895)]
    assert len(compare([made_up("zero-shot", figures)], ["a"]).rows) == 1, "which data set it is, is not known"
    ways = {name: {"recall": {"1": 0.5, "5": 0.7, "10": 0.9}, "median_rank": 3} for name in ("text_to_image",)}
    better = {"text_to_image": {"recall": {"1": 0.4, "5": 0.7, "10": 0.9}, "median_rank": 2}}
    found = compare([made_up("retrieval", ways), made_up("retrieval", better)], ["a", "b"])
    titles = [column.title for column in found.columns]
    assert found.best(titles.index("text → image R@1")) == 0.5
    assert found.best(titles.index("text → image median rank")) == 2
    assert found.best(titles.index("image → text R@1")) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no report of python -m bench quality … --json"),
        ('{"task": "speed", "family": "a", "results": {"a": {}}}', "is no report"),
        ('{"task": "radnli", "family": "a", "results": {}}', "is no report"),
        ("{", "Expecting"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_report_is_named(content: str | None, message: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_reports([file])
    assert main(["quality", "compare", str(file)]) == 1
    assert "report.json" in capsys.readouterr().err


def test_mistakes(reports: list[Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "other.json").write_text(json.dumps(made_up("masked", {"accuracy": 0.5})))
    for arguments, message in (
        (
            (reports[0], tmp_path / "other.json"),
            "Results of one task are put side by side; there are several: ms-cxr (",
        ),
        ((reports[0], "--published", "rsna"), "Nothing published is known of 'rsna' for ms-cxr; there is: ms-cxr"),
        ((reports[0], "--out", tmp_path / "table.txt"), "'.txt'; .md is expected"),
        ((reports[0], "--out", reports[0].with_suffix(".md").parent / "gone" / "t.md"), "does not exist"),
    ):
        assert main(["quality", "compare", *map(str, arguments)]) == 1
        assert message in capsys.readouterr().err


def test_every_task_of_quality_can_be_put_side_by_side() -> None:
    assert {command.NAME for command in QUALITY} - {"compare"} == set(TASKS)
    for task, rows in PUBLISHED.items():
        titles = {column.title for column in TASKS[task].columns}
        for row in rows:
            assert set(row.figures) <= titles
            assert row.source
            assert row.data in data_sets(task)
