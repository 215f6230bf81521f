"""Downloading from the hub, against a small server that speaks its protocol."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from export.checkpoints import open_checkpoint
from export.checkpoints.hub import download
from export.errors import CheckpointError
from tests.conftest import ROOT, tiny_family
from tests.export.families.berts import write_pipeline
from tests.export.families.clips import write_clip

REPO = "microsoft/BiomedVLP-CXR-BERT-specialized"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".bin", ".pt", ".safetensors")

_OPEN = """
import sys
from pathlib import Path
from tests.conftest import tiny_family
from export.checkpoints import open_checkpoint
from runtime.errors import CxrEngineError
try:
    checkpoint = open_checkpoint(
        sys.argv[1], tiny_family(sys.argv[2]), Path(sys.argv[3]), revision=sys.argv[4] or None, note=print
    )
    print(checkpoint.source, sorted(path.name for path in checkpoint.folder.iterdir()))
except CxrEngineError as error:
    print(type(error).__name__, error)
"""


class Hub(http.server.ThreadingHTTPServer):
    """One repository with one tag, "v1.1"."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requested: list[str] = []
        self.wrong_digest: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def siblings(self) -> list[dict[str, object]]:
        entries = []
        for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            content = file.read_bytes()
            name = file.relative_to(self.folder).as_posix()
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": "0" * 40}
            if file.suffix in LARGE:
                digest = "f" * 64 if file.name in self.wrong_digest else hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requested.append(path)
        revisions = ("v1.1", "main", COMMIT)
        for revision in revisions:
            if path == f"/api/models/{REPO}/revision/{revision}":
                info = {"_id": "1", "id": REPO, "sha": COMMIT, "siblings": self.server.siblings(), "private": False}
                return self.answer(json.dumps(info).encode(), {"Content-Type": "application/json"})
            prefix = f"/{REPO}/resolve/{revision}/"
            file = self.server.folder / path.removeprefix(prefix)
            if path.startswith(prefix) and file.is_file():
                content = file.read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                return self.answer(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            if path.startswith(f"/api/models/{REPO}/tree/{revision}"):
                tree = [
                    {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": "0" * 40}
                    for entry in self.server.siblings()
                ]
                return self.answer(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        return self.answer(b'{"error": "not found"}', {"X-Error-Code": "RevisionNotFound"}, status=404)

    def answer(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Hub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    for file in tiny_checkpoint.iterdir():
        if file.name != "random_weights.json":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "modeling_cxrbert.py").write_text("raise SystemExit('code of the repository was run')")
    (folder / "training_log.bin").write_bytes(b"x" * 100)
    server = Hub(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(
    hub: Hub,
    tmp_path: Path,
    family: str = "cxr-bert-specialized",
    repo: str = REPO,
    revision: str = "",
    offline: bool = False,
) -> str:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_HUB_OFFLINE": str(int(offline))}
    process = subprocess.run(
        [sys.executable, "-c", _OPEN, repo, family, str(tmp_path / "work"), revision],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_the_pinned_revision_is_downloaded_and_only_what_is_needed(hub: Hub, tmp_path: Path) -> None:
    printed = fetch(hub, tmp_path)
    assert f"kind='hub', name='{REPO}', revision='v1.1', commit='{COMMIT}'" in printed
    assert f"/api/models/{REPO}/revision/v1.1" in hub.requested
    assert "'vocab.txt'" in printed
    for unwanted in ("modeling_cxrbert.py", "training_log.bin", "biovil_image"):
        assert unwanted not in printed
        assert not any(unwanted in path for path in hub.requested)


@pytest.mark.slow
def test_a_repository_of_sentence_transformers_is_fetched_with_its_modules(hub: Hub, tmp_path: Path) -> None:
    shutil.rmtree(hub.folder)
    write_pipeline(hub.folder, dense=32, prompts={"query": "find: "})
    (hub.folder / "onnx").mkdir()
    (hub.folder / "onnx/model.onnx").write_bytes(b"x" * 100)
    for offline in (False, True):
        printed = fetch(hub, tmp_path, "bert", offline=offline)
        assert "'1_Pooling', '2_Dense'" in printed
        assert "'onnx'" not in printed
        assert "'config_sentence_transformers.json'" in printed


@pytest.mark.slow
def test_one_format_of_a_clips_weights_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """Repositories hold the same weights as transformers and as open_clip write them."""
    shutil.rmtree(hub.folder)
    write_clip(hub.folder)
    (hub.folder / "open_clip_config.json").write_text("{}")
    for other in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "tf_model.h5"):
        (hub.folder / other).write_bytes(b"x" * 100)
    for offline in (False, True):
        printed = fetch(hub, tmp_path, "clip", offline=offline)
        assert "'model.safetensors'" in printed
        assert "'merges.txt'" in printed
        assert not any(name in printed for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "tf_model.h5"))


@pytest.mark.slow
def test_image_weights_that_are_not_the_published_ones_are_refused(hub: Hub, tmp_path: Path) -> None:
    """The server's file is not Microsoft's, so the pinned md5 must stop it."""
    printed = fetch(hub, tmp_path, "biovil-image")
    assert printed.startswith("CheckpointError")
    assert "the published file has 02ce6ee460f72efd599295f440dbb453" in printed


@pytest.mark.slow
def test_a_digest_that_differs_from_the_hub_s_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_digest.add("pytorch_model.bin")
    printed = fetch(hub, tmp_path)
    assert printed.startswith("CheckpointError pytorch_model.bin")
    assert "the hub lists ffff" in printed


@pytest.mark.slow
def test_an_unknown_revision_or_repository_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    for arguments in ({"revision": "v9"}, {"repo": "nobody/nothing"}):
        printed = fetch(hub, tmp_path, **arguments)
        assert printed.startswith("CheckpointError")
        assert "cannot be downloaded" in printed
        assert "pass its folder as --checkpoint" in printed


@pytest.mark.slow
def test_without_the_hub_the_cache_is_used_and_it_is_said(hub: Hub, tmp_path: Path) -> None:
    """What one export downloaded, the next one finds by the same revision: offline, and where nothing answers."""
    online = fetch(hub, tmp_path).splitlines()
    assert len(online) == 1
    hub.requested.clear()
    offline = fetch(hub, tmp_path, offline=True).splitlines()
    assert hub.requested == []
    hub.shutdown()
    hub.server_close()
    unreachable = fetch(hub, tmp_path).splitlines()
    for note, checkpoint in (offline, unreachable):
        assert f"{REPO} at revision v1.1 is taken from its cache, commit {COMMIT}" in note
        assert checkpoint == online[0]


@pytest.fixture
def cached(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache as its client lays it out, without a network; returns the repository's folder in it."""
    from huggingface_hub import constants

    root = tmp_path / "hub" / f"models--{REPO.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True)
    (root / "refs" / "v1.1").write_text(COMMIT)
    for file in tiny_checkpoint.iterdir():
        if file.name != "random_weights.json":
            content = file.read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            name = hashlib.sha256(content).hexdigest() if file.suffix in LARGE else git
            (root / "blobs" / name).write_bytes(content)
            (snapshot / file.name).symlink_to(f"../../blobs/{name}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root.parent))
    return root


def opened(tmp_path: Path, family: str = "cxr-bert-specialized", **options: object):
    notes: list[str] = []
    return open_checkpoint(REPO, tiny_family(family), tmp_path, note=notes.append, **options), notes


def test_a_cached_snapshot_offline(cached: Path, tmp_path: Path) -> None:
    checkpoint, notes = opened(tmp_path)
    source = checkpoint.source
    assert (source.kind, source.name, source.revision, source.commit) == ("hub", REPO, "v1.1", COMMIT)
    assert checkpoint.folder == cached / "snapshots" / COMMIT
    assert len(notes) == 1
    assert notes[0].startswith("the hub was not asked (HF_HUB_OFFLINE is set)")
    assert "taken from its cache" in notes[0]
    assert opened(tmp_path, revision=COMMIT)[0].source.commit == COMMIT


@pytest.mark.parametrize("name", ["pytorch_model.bin", "vocab.txt"])
def test_a_cached_file_that_was_changed_is_refused(cached: Path, tmp_path: Path, name: str) -> None:
    blob = (cached / "snapshots" / COMMIT / name).resolve()
    blob.write_bytes(blob.read_bytes().replace(b"1", b"2"))
    with pytest.raises(CheckpointError, match=rf"{name} from {REPO} in the hub's cache is not the file"):
        opened(tmp_path)


def test_copies_in_a_cache_without_links(cached: Path, tmp_path: Path) -> None:
    """Windows without the right to make links: names of files say nothing about their digests."""
    for file in (cached / "snapshots" / COMMIT).iterdir():
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert opened(tmp_path)[0].source.commit == COMMIT


def test_the_published_image_weights_are_checked_in_the_cache_as_well(cached: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the published file has 02ce6ee460f72efd599295f440dbb453"):
        opened(tmp_path, "biovil-image")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.json", "vocab.txt"])
def test_a_snapshot_that_is_cached_in_part(cached: Path, tmp_path: Path, name: str) -> None:
    (cached / "snapshots" / COMMIT / name).unlink()
    with pytest.raises(CheckpointError, match=rf"Missing: .*{name}.*holds a part of it: fetch the rest") as caught:
        opened(tmp_path)
    assert f"hf download {REPO} --revision v1.1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_in_the_cache(cached: Path, tmp_path: Path) -> None:
    (cached / "refs" / "v1.1").rename(cached / "refs" / "main")
    with pytest.raises(CheckpointError, match=r"other revisions of it \(main\): take one with --revision") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
    assert opened(tmp_path, revision="main")[0].source.commit == COMMIT
    with pytest.raises(CheckpointError, match=r"Did you mean microsoft/BiomedVLP-CXR-BERT-specialized\?$") as caught:
        open_checkpoint("microsoft/BiomedVLP-CXR-BERT-specialised", tiny_family(), tmp_path)
    assert "is not in the hub's cache" in str(caught.value)
    assert "There is no folder of that name here either" in str(caught.value)
    for revision in ("../../../secret", "v\0", "a" * 5000):
        with pytest.raises(CheckpointError, match="is not in the hub's cache"):
            opened(tmp_path, revision=revision)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_answers_of_the_hub(cached: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A hub that is out of order is like none; one that says no is heard."""
    from types import SimpleNamespace

    import huggingface_hub

    class Answer(Exception):  # noqa: N818, the hub's own types differ between its versions
        response = SimpleNamespace(status_code=status)

    def fail(*_: object, **__: object) -> None:
        raise Answer(f"{status}\n\nfor url: …")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    if status in (429, 500, 503):
        assert download(REPO, "v1.1", ["config.json"])[1] == COMMIT
    else:
        with pytest.raises(CheckpointError, match=f"cannot be downloaded: {status} for url"):
            download(REPO, "v1.1", ["config.json"])
