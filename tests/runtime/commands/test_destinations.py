"""Every command that writes: an input is never replaced, a stranger's file only with --force, a link stays a link."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runtime
from export.samples import chest_phantom
from runtime.__main__ import main
from runtime.files.replaceable import wrote
from tests.conftest import ROOT
from tests.runtime.handmade import fp32, write_bundle
from tests.runtime.trees import contents

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("faiss")

PROMPTS = {"Effusion": {"positive": ["pleural effusion"], "negative": ["no effusion"]}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("handmade") / "bundle", text=[fp32()], image=[fp32()])


@pytest.fixture(scope="module")
def made_index(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("index") / "texts"
    runtime.build_index(runtime.load(bundle, provider="cpu"), [], out, texts=["no effusion", "left opacity"])
    return out


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: what the commands below read, and nothing else."""
    Image.fromarray(chest_phantom(110, 100, 1)).save(tmp_path / "film.png")
    (tmp_path / "texts.txt").write_text("left opacity\nclear lungs\n")
    (tmp_path / "texts.jsonl").write_text('{"text": "left opacity"}\n{"text": 5}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["no effusion"]}), tmp_path / "texts.parquet")
    (tmp_path / "films.csv").write_text("film,Effusion\nfilm.png,1\n")
    (tmp_path / "films.jsonl").write_text('{"film": "film.png"}\n{"film": 5}\n')
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Writing:
    """A command that writes a file.

    Attributes:
        arguments: (the file to be written, whether it succeeds) → what follows the bundle.
        suffix: of the file.
        inputs: names of what it reads.
    """

    command: str
    arguments: Callable[[str], list[str]]
    suffix: str
    inputs: tuple[str, ...]

    def run(self, bundle: Path, index: Path, out: str | Path, *more: str) -> int:
        arguments = [str(index) if argument == "INDEX" else argument for argument in self.arguments(str(out))]
        return main([self.command, str(bundle), *arguments, "--provider", "cpu", *more])


def beside(out: str) -> str:
    """The .npy file that has its ids in that file."""
    return out.removesuffix(".ids.txt") + ".npy"


CLASSIFY = ["--image-column", "film", "--prompts", "prompts.json"]
COMMANDS = {
    "embed to npy": Writing("embed", lambda out: ["texts.txt", "--out", out], ".npy", ("texts.txt",)),
    "embed's ids": Writing("embed", lambda out: ["texts.txt", "--out", beside(out)], ".ids.txt", ("texts.txt",)),
    "embed to parquet": Writing("embed", lambda out: ["texts.parquet", "--out", out], ".parquet", ("texts.parquet",)),
    "embed's rejects": Writing(
        "embed", lambda out: ["texts.jsonl", "--out", "o.npy", "--rejects", out], ".jsonl", ("texts.jsonl",)
    ),
    "classify": Writing(
        "classify",
        lambda out: ["films.csv", *CLASSIFY, "--labels", "films.csv", "--label-id-column", "film", "--out", out],
        ".csv",
        ("films.csv", "prompts.json", "film.png"),
    ),
    "classify's rejects": Writing(
        "classify",
        lambda out: ["films.jsonl", *CLASSIFY, "--out", "o.csv", "--rejects", out],
        ".jsonl",
        ("films.jsonl", "prompts.json", "film.png"),
    ),
    "ground": Writing("ground", lambda out: ["film.png", "left opacity", "--out", out], ".png", ("film.png",)),
    "ground's map": Writing(
        "ground", lambda out: ["film.png", "x", "--out", "o.png", "--save-map", out], ".npy", ("film.png",)
    ),
    "search": Writing("search", lambda out: ["INDEX", "--image", "film.png", "--html", out], ".html", ("film.png",)),
}
writing = pytest.mark.parametrize("each", COMMANDS.values(), ids=COMMANDS.keys())


def the_same(source: Path) -> Path:
    return source


def upwards(source: Path) -> Path:
    (source.parent / "more").mkdir(exist_ok=True)
    return Path("more", "..", source.name)


def hard_link(source: Path, name: str) -> Path:
    os.link(source, name)
    return Path(name)


def symbolic_link(source: Path, name: str) -> Path:
    Path(name).symlink_to(source)
    return Path(name)


@pytest.mark.parametrize(
    ("each", "source", "name"),
    [
        pytest.param(each, source, name, id=f"{title}-{source}-{name.__name__}")
        for title, each in COMMANDS.items()
        for source in each.inputs
        for name in (the_same, upwards, hard_link, symbolic_link)
        if source.endswith(each.suffix) or name in (hard_link, symbolic_link)
    ],
)
def test_an_input_is_never_replaced(
    each: Writing, source: str, name, bundle: Path, made_index: Path, place: Path, capsys
) -> None:
    """Whatever it is called, and whatever is forced."""
    linked = (f"linked{each.suffix}",) if name in (hard_link, symbolic_link) else ()
    out = name(place / source, *linked)
    before = contents(place)
    for more in ((), ("--force",)):
        assert each.run(bundle, made_index, out, *more) == 1
        message = capsys.readouterr().err
        assert "would overwrite an input" in message
        assert "--force" not in message, "which would not help"
        assert contents(place) == before


@writing
def test_a_file_of_someone_else_is_replaced_with_force_alone(
    each: Writing, bundle: Path, made_index: Path, place: Path, capsys
) -> None:
    out = place / f"o{each.suffix}"
    out.write_bytes(b"precious")
    before = contents(place)
    assert each.run(bundle, made_index, out) == 1
    message = capsys.readouterr().err
    assert f"{out} is there already, and this program did not write it" in message
    assert "--force" in message
    assert contents(place) == before
    assert each.run(bundle, made_index, out, "--force") == 0
    assert out.read_bytes() != b"precious"
    assert wrote(out)
    written = out.read_bytes()
    assert each.run(bundle, made_index, out) == 0, "what this program wrote is replaced without asking"
    assert out.read_bytes() == written
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


@writing
def test_a_link_stays_a_link(each: Writing, bundle: Path, made_index: Path, place: Path) -> None:
    """To a file of this program, and to none."""
    (place / "far").mkdir()
    for number in ("first", "again"):
        for name in ("o", "dangling"):
            out, target = place / f"{name}{each.suffix}", place / "far" / f"target-{name}{each.suffix}"
            if number == "first":
                assert name == "dangling" or each.run(bundle, made_index, target) == 0
                out.symlink_to(target)
            if target.exists() and number == "again":
                os.utime(target, (0, 0))
            if each.suffix == ".ids.txt" and not (place / beside(out.name)).exists():
                assert each.run(bundle, made_index, out, "--force") == 0  # nothing beside it says whose it is
            assert each.run(bundle, made_index, out) == 0
            assert out.is_symlink()
            assert out.readlink() == target
            assert target.is_file()
            assert not target.is_symlink()
            assert target.stat().st_mtime > 0
            assert wrote(out)


@writing
def test_pipes_and_devices_are_refused_and_stay(each: Writing, bundle: Path, made_index: Path, place: Path, capsys):
    pipe, device = place / f"pipe{each.suffix}", place / f"device{each.suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/null")
    for out, what in ((pipe, "a pipe"), (device, "a device")):
        for more in ((), ("--force",)):
            assert each.run(bundle, made_index, out, *more) == 1
            message = capsys.readouterr().err
            assert f"it is {what}" in message
            assert "with --force" not in message
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@writing
def test_nothing_is_added_to_a_bundle(each: Writing, bundle: Path, made_index: Path, place: Path, capsys) -> None:
    (place / "by-link").symlink_to(bundle)
    before = contents(bundle)
    for out in (bundle / f"o{each.suffix}", Path("by-link", "text", f"o{each.suffix}")):
        assert each.run(bundle, made_index, out, "--force") == 1
        assert "which nothing is added to" in capsys.readouterr().err
    assert contents(bundle) == before
    model = hard_link(bundle / "manifest.json", f"model{each.suffix}")
    assert each.run(bundle, made_index, model, "--force") == 1
    assert "would overwrite an input" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "first", "second"),
    [
        (["embed", "texts.jsonl", "--out", "a.npy", "--rejects", "b.jsonl"], "a.npy", "b.jsonl"),
        (["embed", "texts.jsonl", "--out", "a.npy", "--rejects", "b.jsonl"], "a.ids.txt", "b.jsonl"),
        (["classify", "films.jsonl", *CLASSIFY, "--out", "a.csv", "--rejects", "b.jsonl"], "a.csv", "b.jsonl"),
        (["ground", "film.png", "x", "--out", "a.png", "--save-map", "b.npy"], "a.png", "b.npy"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_two_outputs_are_two_files(command, first: str, second: str, there: bool, bundle: Path, place: Path, capsys):
    if there:
        (place / first).write_bytes(b"old")
    (place / second).symlink_to(place / first)
    before = contents(place)
    assert main([command[0], str(bundle), *command[1:], "--force"]) == 1
    assert "are the same file" in capsys.readouterr().err
    assert contents(place) == before


def test_images_that_a_table_names_are_inputs_too(bundle: Path, place: Path, capsys) -> None:
    hard_link(place / "film.png", "o.npy")
    before = contents(place)
    arguments = ["embed", str(bundle), "films.csv", "--image-column", "film", "--out", "o.npy", "--force"]
    assert main(arguments) == 1
    assert "o.npy would overwrite an input, film.png, by another name" in capsys.readouterr().err
    assert contents(place) == before


def test_what_folders_and_patterns_hold_is_an_input(bundle: Path, place: Path, capsys) -> None:
    (place / "films").mkdir()
    for source in ("films", "films/*.png"):
        hard_link(place / "film.png", "films/a.png")
        hard_link(place / "film.png", "o.parquet")
        assert main(["embed", str(bundle), source, "--out", "o.parquet", "--force"]) == 1
        assert "would overwrite an input" in capsys.readouterr().err
        (place / "o.parquet").unlink()
        (place / "films/a.png").unlink()


def test_standard_streams_are_files_too(bundle: Path, place: Path) -> None:
    """`… < FILE` makes an input of it, `… > FILE` an output."""
    command = [sys.executable, "-m", "runtime", "embed", str(bundle), "-", "--out", "o.npy", "--rejects", "texts.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = contents(place)
    with (place / "texts.jsonl").open() as stream:
        done = subprocess.run([*command, "--force"], stdin=stream, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "would overwrite an input, standard input, by another name" in done.stderr
    with (place / "log.jsonl").open("w") as stream:
        command[-1] = "log.jsonl"
        done = subprocess.run(
            [*command, "--force"], input="x", stdout=stream, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert done.returncode == 1
    assert "log.jsonl is where standard output goes" in done.stderr
    assert contents(place) == {**before, "log.jsonl": b""}


@writing
def test_a_file_that_appears_meanwhile_is_kept_and_so_is_the_result(
    each: Writing, bundle: Path, made_index: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out, load = place / f"o{each.suffix}", runtime.commands.embed.load_engine

    def slow(*arguments: object):
        engine = load(*arguments)
        out.write_bytes(b"precious")
        return engine

    monkeypatch.setattr(f"runtime.commands.{each.command}.load_engine", slow)
    assert each.run(bundle, made_index, out) == 1
    message = capsys.readouterr().err
    assert "did not write it" in message
    assert out.read_bytes() == b"precious"
    (kept,) = place.glob(f"*-o{each.suffix}")
    assert str(kept) in message
    assert kept.stat().st_size > 0
    if each.suffix == ".ids.txt":
        (rows,) = place.glob("*-o.npy")
        assert len(np.load(rows)) == len(kept.read_text().splitlines())


@writing
def test_the_mode_of_a_replaced_file_is_kept(each: Writing, bundle: Path, made_index: Path, place: Path) -> None:
    out = place / f"o{each.suffix}"
    out.touch()
    out.chmod(0o640)
    assert each.run(bundle, made_index, out, "--force") == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    out.unlink()
    old = os.umask(0o027)
    try:
        assert each.run(bundle, made_index, out, "--force") == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640, "a new one follows the umask"


@writing
def test_names_that_cannot_be_are_refused_before_the_work(
    each: Writing, bundle: Path, made_index: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    circle = place / f"circle{each.suffix}"
    circle.symlink_to(circle)
    longest = place / ("n" * (255 - len(each.suffix)) + each.suffix)
    with monkeypatch.context() as patch:
        patch.setattr(f"runtime.commands.{each.command}.load_engine", None)
        assert each.run(bundle, made_index, circle) == 1
        assert "cannot be written" in capsys.readouterr().err
        assert each.run(bundle, made_index, place / f"n{longest.name}") == 1
        assert "name too long" in capsys.readouterr().err
    if each.suffix != ".npy" or each.command == "ground":  # whose ids have a longer name
        assert each.run(bundle, made_index, longest) == 0
        assert longest.is_file()


def test_marks_survive_a_copy_and_end_with_a_tool_that_writes_the_file_anew(bundle: Path, place: Path) -> None:
    embed = ["embed", str(bundle), "texts.txt", "--out"]
    assert main([*embed, "o.npy"]) == 0
    assert main([*embed, "o.parquet"]) == 0
    assert main(["classify", str(bundle), "film.png", "--prompts", "prompts.json", "--out", "o.csv"]) == 0
    assert main(["ground", str(bundle), "film.png", "x", "--out", "o.png"]) == 0
    for name in ("o.npy", "o.ids.txt", "o.parquet", "o.csv", "o.png"):
        (place / f"copy-{name}").write_bytes((place / name).read_bytes())
        assert wrote(place / f"copy-{name}")
    np.save(place / "o.npy", np.load(place / "o.npy"))
    table = pyarrow.parquet.read_table(place / "o.parquet")
    pyarrow.parquet.write_table(table.append_column("note", [["a", "b"]]), place / "o.parquet")
    with (place / "o.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["id", "Effusion"]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        with (place / f"{quoting}.csv").open("w", newline="") as stream:
            csv.writer(stream, quoting=quoting, lineterminator="\n").writerows(rows)
        assert not wrote(place / f"{quoting}.csv")
    with Image.open(place / "o.png") as image:
        image.load()
        image.convert("L").save(place / "grey.png")
    for name in ("o.npy", "o.ids.txt", "o.parquet", "grey.png"):
        assert not wrote(place / name), name


@pytest.mark.parametrize("suffix", [".npy", ".ids.txt", ".parquet", ".csv", ".jsonl", ".png", ".html", ".md", ".json"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 9000, b"\x93NUMPY\x01\x00", b'"id"', b"[" * 99_999, b"\xff\n\n", b"{}"]
)
def test_odd_files_are_nobody_of_ours(suffix: str, content: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"o{suffix}"
    file.write_bytes(content)
    assert not wrote(file)


def test_numpys_own_headers_have_no_mark(tmp_path: Path) -> None:
    for shape in ((0,), (1, 1), (3, 128), (10**6, 1), (2, 3, 5), (1,) * 20):
        for dtype in ("f4", "f8", "u1", "c16", [("a", "f4"), ("b", "i8")]):
            np.save(tmp_path / "o.npy", np.zeros(shape, dtype))
            assert not wrote(tmp_path / "o.npy"), (shape, dtype)


def test_our_npy_is_plain_npy(tmp_path: Path) -> None:
    from runtime.archive.output import write_array

    rows = np.random.default_rng(0).standard_normal((7, 130)).astype(np.float32)
    for array in (rows, rows.T, rows[:, ::2], rows[:0]):
        write_array(tmp_path / "o.npy", array)
        assert np.array_equal(np.load(tmp_path / "o.npy"), array)
        assert wrote(tmp_path / "o.npy")
    write_array(tmp_path / "o.npy", rows)
    mapped = np.load(tmp_path / "o.npy", mmap_mode="r")
    assert np.array_equal(mapped, rows)
    assert mapped.offset % 64 == 0


def test_a_protected_file_is_replaced_with_force_alone(bundle: Path, place: Path, monkeypatch, capsys) -> None:
    command = ["embed", str(bundle), "texts.txt", "--out", "o.npy"]
    assert main(command) == 0
    (place / "o.npy").chmod(0o444)
    access = os.access
    if os.geteuid() == 0:  # who may write everything
        monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and Path(path).name != "o.npy")
    assert main(command) == 1
    assert "protected from writing" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert stat.S_IMODE((place / "o.npy").stat().st_mode) == 0o444


def test_a_list_of_rejects_that_no_longer_holds_is_removed(bundle: Path, place: Path) -> None:
    command = ["embed", str(bundle), "texts.jsonl", "--out", "o.npy", "--rejects", "r.jsonl"]
    assert main(command) == 0
    assert (place / "r.jsonl").is_file()
    (place / "texts.jsonl").write_text('{"text": "left opacity"}\n')
    assert main(command) == 0
    assert not (place / "r.jsonl").exists()


def test_a_run_into_a_folder_begins_anew_with_force(bundle: Path, place: Path, capsys) -> None:
    command = ["embed", str(bundle), "texts.jsonl", "--out", "parts/", "--part-rows", "1"]
    assert main(command) == 0
    (place / "parts" / "notes.md").write_text("mine")
    (place / "texts.jsonl").write_text('{"text": "clear lungs"}\n')
    assert main(command) == 1
    assert "begin anew with --force" in capsys.readouterr().err
    assert main([*command, "--force", "--resume"]) == 1
    assert main([*command, "--force"]) == 0
    names = {path.name for path in (place / "parts").iterdir()}
    assert names == {".lock", "_job.json", "part-00000.parquet", "notes.md"}
    assert pyarrow.parquet.read_table(place / "parts" / "part-00000.parquet")["id"].to_pylist() == ["texts.jsonl:1"]
    (place / "thesis").mkdir()
    (place / "thesis" / "part-00000.parquet").write_bytes(b"precious")
    command[4] = "thesis/"
    assert main([*command, "--force"]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert (place / "thesis" / "part-00000.parquet").read_bytes() == b"precious"


def test_a_run_into_a_folder_never_replaces_an_input(bundle: Path, place: Path, capsys) -> None:
    command = ["embed", str(bundle), "texts.jsonl", "--out", "parts"]
    assert main(command) == 0
    before = contents(place)
    again = ["embed", str(bundle), "parts/_rejects.jsonl", "--column", "reason", "--out", "parts", "--force"]
    assert main(again) == 1
    assert "would overwrite an input" in capsys.readouterr().err
    assert contents(place) == before
    assert main([*command[:-1], str(bundle / "parts")]) == 1
    assert "which nothing is added to" in capsys.readouterr().err
    (place / "dangling").symlink_to(place / "absent")
    assert main([*command[:-1], "dangling"]) == 1
    assert "it is a link to" in capsys.readouterr().err


def test_an_index_is_replaced_with_force_alone(bundle: Path, place: Path, capsys) -> None:
    command = ["index", str(bundle), "texts.txt", "--out", "found"]
    assert main(command) == 0
    assert main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert len(runtime.open_index("found")) == 2
    (place / "texts.txt").write_text("edema\n")
    assert main([*command, "--force"]) == 0
    assert [runtime.open_index("found").item(0).text] == ["edema"]
    again = ["index", str(bundle), "found/items.jsonl", "--out", "found", "--force"]
    assert main(again) == 1
    assert "would overwrite an input" in capsys.readouterr().err
    engine = runtime.load(bundle, provider="cpu")
    with pytest.raises(runtime.InputError, match="would overwrite an input"):
        runtime.build_index(engine, "found/items.jsonl", "found", force=True)
    (place / "found" / "notes.md").write_text("mine")
    assert main([*command, "--force"]) == 1
    assert "notes.md" in capsys.readouterr().err
    for name, holds in (("thesis", "is no index"), ("texts.txt", "is no index")):
        (place / "thesis").mkdir(exist_ok=True)
        assert main([*command[:-1], name, "--force"]) == 1
        assert holds in capsys.readouterr().err
    assert main([*command[:-1], str(bundle / "found")]) == 1
    assert "which nothing is added to" in capsys.readouterr().err
    assert sorted(path.name for path in (place / "found").iterdir()) == [
        "index.json",
        "items.jsonl",
        "notes.md",
        "vectors.npy",
    ]


def test_a_sheet_is_never_one_of_its_pictures(place: Path) -> None:
    from runtime.retrieval.result_sheet import Answer, Hit, write_sheet

    sheet = hard_link(place / "film.png", "sheet.html")
    before = contents(place)
    for answers in (
        [Answer("x", "text", [Hit("a", 0.5, None, place / "film.png")])],
        [Answer("film.png", "image", [])],
    ):
        with pytest.raises(runtime.InputError, match="would overwrite an input"):
            write_sheet(sheet, answers, "image", "", [])
        assert contents(place) == before


def test_an_overlay_is_never_its_radiograph(bundle: Path, place: Path) -> None:
    from runtime.tasks.overlay import draw_overlay

    found = runtime.load(bundle, provider="cpu").ground("film.png", "left opacity")
    overlay = symbolic_link(place / "film.png", "overlay.png")
    before = contents(place)
    with Image.open("film.png") as film, pytest.raises(runtime.InputError, match="would overwrite an input"):
        draw_overlay(film, found, "left opacity", overlay)
    assert contents(place) == before
    with Image.open("film.png") as film:
        draw_overlay(film, found, "left opacity", place / "o.png")
    assert wrote(place / "o.png")


@pytest.mark.parametrize("command", ["embed", "index"])
def test_standard_output_takes_no_folder(command: str, bundle: Path, place: Path, capsys) -> None:
    before = contents(place)
    assert main([command, str(bundle), "texts.txt", "--out=-"]) == 1
    assert "standard output" in capsys.readouterr().err
    assert contents(place) == before
