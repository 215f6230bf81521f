"""Folders and patterns → images: what archives and CDs hold, links, litter, what cannot be read."""

from __future__ import annotations

import glob
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.archive import find_items
from runtime.errors import InputError
from runtime.files import Columns, folders
from runtime.files.folders import describe_passed_over, search_folder, search_pattern
from tests.conftest import ROOT
from tests.runtime.trees import DICOM, PNG, scan_in_order, write_tree


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(name: str) -> list[str]:
    """Of a folder, which must give what its pattern gives."""
    found = search_folder(name)
    assert search_pattern(f"{name}/**") == search_pattern(f"{name}/**/*") == search_pattern(f"{name}/") == found
    return found.images


def beside(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, reason, _ in search_folder(name).passed_over:
        found.setdefault(reason, []).append(path)
    return found


def test_images_are_known_by_their_first_bytes(here: Path) -> None:
    names = ["IM000001", "I10", "1.2.840.113619.2.55", "sub/film.img", "sub/film.txt", "x.JPEG.bak", "A.DCM"]
    write_tree(Path("d"), dict.fromkeys(names, DICOM) | {"p": PNG, "sub/wrong.dcm": PNG, "q.JPEG": b"\xff\xd8\xff"})
    write_tree(Path("d"), {"notes.txt": b"x", "b.tif": b"II*\0", "zero": b"", "short": b"\1\2", "r.pdf": b"%PDF-1.7"})
    assert images("d") == sorted(f"d/{name}" for name in [*names, "p", "sub/wrong.dcm", "q.JPEG"])
    assert beside("d") == {
        "no image": ["d/notes.txt", "d/short"],
        "TIFF": ["d/b.tif"],
        "empty": ["d/zero"],
        "PDF": ["d/r.pdf"],
    }


def test_what_claims_to_be_an_image_is_left_for_its_reader_to_refuse(here: Path) -> None:
    """A broken film must end up among the rejects, by its name."""
    write_tree(Path("d"), {"page.dcm": b"<html>", "empty.png": b"", "tiff.jpg": b"II*\0", "lfs.nii.gz": b"version"})
    Path("d/gone.PNG").symlink_to("nowhere")
    assert images("d") == ["d/empty.png", "d/gone.PNG", "d/lfs.nii.gz", "d/page.dcm", "d/tiff.jpg"]
    assert beside("d") == {}


def test_litter_is_passed_over_by_its_name(here: Path) -> None:
    files = ["._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "DICOMDIR", ".a.png.partial-17", ".b.png", "Icon\r"]
    parents = ["__MACOSX", "@eaDir", "lost+found", ".git", "$RECYCLE.BIN", ".Trash-1000", "#recycle", ".cache"]
    write_tree(Path("d"), {"a.png": PNG} | dict.fromkeys([*files, *(f"{each}/b.png" for each in parents)], PNG))
    write_tree(Path("d"), {"index": DICOM + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10"})
    assert images("d") == ["d/a.png"]
    found = search_folder("d").passed_over
    assert [Path(each.path).name for each in found] == sorted([*files, *parents, "index"])
    assert {each.path.removeprefix("d/") for each in found if each.is_folder} == set(parents)
    reasons = {each.path.removeprefix("d/"): each.reason for each in found}
    assert reasons["DICOMDIR"] == reasons["index"] == "DICOMDIR"
    assert (reasons["._a.png"], reasons[".b.png"]) == ("AppleDouble, macOS's notes", "hidden")
    assert search_folder("d/.cache").images == ["d/.cache/b.png"], "a folder that is named is searched"
    assert search_pattern("d/.cache/*").images == ["d/.cache/b.png"]
    assert search_pattern("d/.b*").images == ["d/.b.png"], "the pattern's dot asks for it"
    assert search_pattern("d/.*/*.png").images == ["d/.cache/b.png"]


def test_linked_folders_are_followed_and_each_is_searched_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(here, {"d/z/a.png": PNG, "more/b.png": PNG, "more/sub/c.png": PNG, "file.png": PNG})
    for link, target in (
        ("d/m", "d/z"),  # under its own name
        ("d/p10", "more"),
        ("d/p11", "more/sub"),  # within the one before
        ("d/a-cycle", "d"),
        ("more/up", "d"),
        ("more/self", "more"),
        ("d/linked", "file.png"),
        ("d/linked-again", "file.png"),
        ("d/loop", "d/loop"),
        ("d/gone", "nowhere"),
    ):
        Path(link).symlink_to(here / target)
    for backwards in (False, True):
        with monkeypatch.context() as patch:
            scan_in_order(patch, backwards)
            linked = ["d/linked", "d/linked-again", "d/p10/b.png", "d/p10/sub/c.png"]
            assert images("d") == [*linked, "d/z/a.png"]
            assert beside("d") == {
                "link to a folder that is searched already": ["d/a-cycle", "d/m", "d/p10/self", "d/p10/up", "d/p11"],
                "broken link": ["d/gone", "d/loop"],
            }
    Path("to-d").symlink_to("d")
    assert images("to-d") == [f"to-{name}" for name in images("d")]
    assert images("d/m") == ["d/m/a.png"]
    assert search_pattern("d/**/p11/*").images == ["d/p11/c.png"], "its own name is asked for"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are POSIX's")
def test_fifos_sockets_and_devices_are_not_opened(here: Path) -> None:
    os.mkfifo("d/a.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("d/b")
        Path("d/c.dcm").symlink_to("a.png")
        Path("d/d").symlink_to(os.devnull)
        assert images("d") == []
    assert beside("d") == {"FIFO, socket or device": ["d/a.png", "d/b", "d/c.dcm", "d/d"]}


def test_what_cannot_be_read_is_said(here: Path) -> None:
    write_tree(Path("d"), {"a/1.png": PNG, "closed/2.png": PNG, "secret": DICOM, "b.png": PNG})
    Path("d/link").symlink_to("closed/2")
    code = """if True:
        import os, sys
        sys.path.insert(0, sys.argv[1])
        from runtime.files.folders import *
        if os.getuid() == 0:  # who may read everything
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
        print(search_folder("d"))
        try:
            search_folder("d/closed")
        except PermissionError as error:
            print(error.strerror)
    """
    here.chmod(0o755)
    try:
        Path("d/closed").chmod(0)
        Path("d/secret").chmod(0)
        printed = subprocess.run(
            [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, timeout=60, check=True
        ).stdout.splitlines()
    finally:
        Path("d/closed").chmod(0o755)
    assert printed[0] == str(
        folders.Found(
            ["d/a/1.png", "d/b.png"],
            [
                folders.PassedOver("d/closed", "unreadable (Permission denied)", True),
                folders.PassedOver("d/link", "unreadable (Permission denied)"),
                folders.PassedOver("d/secret", "unreadable (Permission denied)"),
            ],
        )
    )
    assert printed[1] == "Permission denied"


@pytest.mark.parametrize("seed", range(12))
def test_patterns_match_as_glob_does(here: Path, seed: int) -> None:
    """Where there are neither links nor litter."""
    rng = random.Random(seed)
    letters = ["a", "b", "ab", "c.png", "d.dcm", "[x]"]
    for _ in range(40):
        path = Path("d", *(rng.choice(letters[:4]) for _ in range(rng.randrange(4))), rng.choice(letters) + "f")
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PNG)
    parts = ["*", "**", "a*", "?", "[ab]*", "a", "*.png", "*f", "[[]x]f", "b"]
    nonempty = 0
    for _ in range(150):
        pattern = "/".join([rng.choice(["d", "*", "**"]), *(rng.choice(parts) for _ in range(rng.randrange(1, 4)))])
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (what it is compared with)
        expected = sorted({file for file in matches if Path(file).is_file()})
        assert search_pattern(pattern).images == expected, pattern
        nonempty += bool(expected)
        absolute = [str(here / file) for file in expected]
        assert search_pattern(str(here / pattern)).images == absolute
    assert nonempty > 30
    assert search_pattern("**").images == search_folder(".").images == search_pattern("./**").images


def test_a_pattern_says_which_folders_it_does_not_enter(here: Path) -> None:
    write_tree(Path("d"), {"a.png": PNG, "b/c.png": PNG})
    found = search_pattern("d/*")
    assert found.images == ["d/a.png"]
    assert found.passed_over == [("d/b", "folder that the pattern does not enter (end it with /**)", True)]
    assert search_pattern("d/*/").images == search_pattern("d/*/**").images == ["d/b/c.png"]
    assert search_pattern("nowhere/**") == search_pattern("d/a.png/**") == folders.Found([], [])


def test_names_that_are_no_utf_8(here: Path) -> None:
    names = [os.fsdecode(b"d/caf\xe9"), os.fsdecode(b"d/sub\xff/b.png")]
    write_tree(here, dict.fromkeys(names, PNG))
    assert images("d") == names
    (here / os.fsdecode(b"d/notes\xe9")).touch()
    stream = find_items(["d"], [], Columns())
    assert [item.id for item in stream] == images("d")
    assert stream.sources[0].stamp["files"] == 2


def test_many_files_are_looked_at_by_several_threads(here: Path) -> None:
    write_tree(Path("d"), {f"{index:04}": DICOM if index % 3 else b"x" for index in range(700)})
    assert images("d") == [f"d/{index:04}" for index in range(700) if index % 3]


def test_what_is_passed_over_is_said_once_with_examples(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tree(Path("d"), {"a.png": PNG, "x.txt": b"x", "y.md": b"x", "z.c": b"x", "w.h": b"x", ".b": PNG})
    write_tree(Path("e"), {"__MACOSX/b.png": PNG, "t": b"II*\0", "IM1": DICOM})
    stream = find_items(["d", "d/a.png", "e/*"], [], Columns())
    assert [item.id for item in stream] == ["d/a.png", "d/a.png", "e/IM1"]
    assert len(stream.passed_over) == 7
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("runtime", "WARNING")
    assert record.getMessage() == (
        "6 files and 1 folder are passed over: no image: 4 (d/w.h, d/x.txt, d/y.md, …); hidden: 1 (d/.b); "
        "macOS's notes: 1 (e/__MACOSX); TIFF: 1 (e/t)"
    )
    assert describe_passed_over([]) == ""


def test_a_folder_of_nothing_else_says_what_it_holds(here: Path) -> None:
    write_tree(Path("d"), {"a.docx": b"PK\x03\x04", ".b.png": PNG})
    for name in ("d", "d/", "d/**", "d/*"):
        with pytest.raises(InputError) as caught:
            find_items([name], [], Columns())
        assert str(caught.value) == (
            f"{name}: holds nothing to embed: 2 files are passed over: hidden: 1 (d/.b.png); ZIP: 1 (d/a.docx)"
        )
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"^empty: holds nothing to embed$"):
        find_items(["empty"], [], Columns())


def test_the_stamp_of_a_folder_knows_its_names(here: Path) -> None:
    def stamp() -> dict[str, object]:
        return dict(find_items(["d"], [], Columns()).sources[0].stamp)

    write_tree(Path("d"), {"IM1": DICOM, "notes.txt": b"x"})
    first = stamp()
    Path("d/more.txt").touch()
    assert stamp() == first, "what is passed over does not count"
    Path("d/IM1").rename("d/IM2")
    assert stamp() != first
    write_tree(Path("d"), {"IM1": DICOM})
    assert stamp()["files"] == 2
