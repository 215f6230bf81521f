"""A folder of Parquet parts that a killed run leaves whole and a later run continues.

    OUT/part-00000.parquet …   id, embedding, model_digest, provider, precision; the next `part_rows` items each
    OUT/_rejects.jsonl         a line for each item that could not be used: id, index, reason
    OUT/_job.json              what was asked for, and once all is done the counts
    OUT/.lock                  held by the process that writes; empty

Names that begin with "_" or "." are passed over by whatever reads a folder of Parquet files (pyarrow.dataset, pandas,
Spark).

The protocol: `_job.json` is written before anything else. For each part the rejects of its items are appended to
`_rejects.jsonl` and brought to the disk first; then the part is written under another name, brought to the disk and
renamed. The rename is the only step that counts: the part's metadata say how many items it covers, a digest of those
items, and how long `_rejects.jsonl` is with its rejects. So on resuming

- the parts there are, numbered without a gap, are what is done, and the next item is the sum of their items;
- what `_rejects.jsonl` holds beyond the last part's length is of a part that never came to be, and is cut off;
- files left under another name are removed;
- the items done are read again (not embedded) and compared with the digests: names, texts, and size and time of change
  of the images embedded. So a table, a listing or a pipe that changed is noticed at the part where it did.

The lock is the kernel's (flock), so it ends with its process, however that ends. Each part is embedded by a call of its
own, so what is in it does not depend on where a run was resumed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive.folder_lock import LOCK, lock_folder
from runtime.archive.job import read_job, write_job
from runtime.archive.output import clean_id, embedding_column
from runtime.archive.records import Part, Reject, part_metadata, read_part, reject_line
from runtime.errors import InputError, MissingExtraError
from runtime.files import parse_json
from runtime.files.decode import decode
from runtime.files.replaceable import real_path
from runtime.files.text_files import decode_text
from runtime.files.whole_file import PARTIAL, whole_file
from runtime.process.wording import few

__all__ = ["JOB", "REJECTS", "Archive", "check_folder"]

JOB = "_job.json"
REJECTS = "_rejects.jsonl"
_PART_NAME = re.compile(r"part-(\d{5,})\.parquet")


def check_folder(out: Path, resume: bool, force: bool = False) -> None:
    """Fail before the work rather than after it.

    Args:
        out: the folder to be written; it may not be there yet.
        resume: whether it may hold parts already.
        force: whether it may hold a run that is to be replaced.

    Raises:
        InputError: it cannot be written, or holds something else than a run that may be resumed or replaced.
        MissingExtraError: no pyarrow.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"Writing {out}", "pyarrow", "parquet") from None
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} cannot be written: a file of that name is in the way.")
    if out.is_symlink() and not out.exists():
        raise InputError(f"{out} cannot be written: it is a link to {real_path(out)}, which does not exist. Create it.")
    if not out.exists() and not out.parent.is_dir():
        raise InputError(f"{out} cannot be written: the folder {out.parent} does not exist. Create it first.")
    place = out if out.exists() else out.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{out} cannot be written: no permission to write in {place}.")
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    found = [name for name in names if name != LOCK and not (name.startswith(".") and PARTIAL in name)]
    if not found:
        return
    if JOB not in found:
        raise InputError(
            f"{out} is not empty and holds no run to resume (it has {few(found, 3)}). Give another folder."
        )
    if not (resume or force):
        raise InputError(
            f"{out} is not empty: a run was begun there. Go on with it by the same command and --resume, begin anew "
            "with --force, or give another folder."
        )


class Archive:
    """A folder of parts, locked for this process; a context manager.

    Attributes:
        folder: where the parts are.
        parts: what is done.
        finished: whether a former run came to its end.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        metadata: Mapping[str, str],
        resume: bool,
        force: bool = False,
    ) -> None:
        """Begin a run, or continue one.

        Args:
            folder: made if it is not there.
            settings: what the parts depend on, as JSON; "model_digest", "provider", "precision" and "part_rows" are
                among it.
            metadata: for the schema of every part.
            resume: whether there may be parts already, of the same settings.
            force: whether there may be a run that is not resumed but removed.

        Raises:
            InputError: as `check_folder`; another process writes there, the settings differ, or files that a run had
                written are gone or changed.
        """
        self.folder = folder
        self.parts: list[Part] = []
        self._settings = dict(settings)
        self._metadata = dict(metadata)
        folder.mkdir(exist_ok=True)
        self._lock = lock_folder(folder)
        try:
            check_folder(folder, resume, force)
            for file in folder.glob(f".*{PARTIAL}*"):
                file.unlink()
            if force:
                self._remove_run()
            self.finished = self._begin()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def items(self) -> int:
        """Items done, embedded or rejected."""
        return sum(part.items for part in self.parts)

    @property
    def embedded(self) -> int:
        """Rows of all parts."""
        return sum(part.embedded for part in self.parts)

    @property
    def rejects(self) -> Path:
        """The file of rejects; there if something was rejected."""
        return self.folder / REJECTS

    def rejected_indices(self, number: int) -> set[int]:
        """Positions, among all items, of a part's rejects."""
        start = self.parts[number - 1].rejects_bytes if number else 0
        length = self.parts[number].rejects_bytes - start
        if not length:
            return set()
        with self.rejects.open("rb") as stream:
            stream.seek(start)
            try:
                lines = decode_text(stream.read(length)).split("\n")
                return {decode(int, parse_json(line)["index"], "index") for line in lines if line}
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{self.rejects} was changed since it was written. Write to another folder.") from None

    def write(
        self, ids: Sequence[str], embeddings: NDArray[np.float32], rejects: Sequence[Reject], sha256: str
    ) -> None:
        """Write the next part.

        Args:
            ids: of the items embedded.
            embeddings: float32 (len(ids), D).
            rejects: the other items of the part.
            sha256: digest of all its items.

        Raises:
            OSError: a full disk, say; the part is then not there, and what was done before is.
        """
        import pyarrow
        import pyarrow.parquet

        length = self.parts[-1].rejects_bytes if self.parts else 0
        if rejects:
            with self.rejects.open("ab") as stream:
                stream.truncate(length)  # of a part that failed a moment ago
                stream.write(b"".join(map(reject_line, rejects)))
                stream.flush()
                os.fsync(stream.fileno())
                length = stream.seek(0, os.SEEK_END)
        part = Part(len(ids) + len(rejects), len(ids), sha256, length)
        columns: dict[str, Any] = {
            "id": pyarrow.array(map(clean_id, ids), pyarrow.string()),
            "embedding": embedding_column(embeddings),
        }
        for name in ("model_digest", "provider", "precision"):
            index = pyarrow.array(np.zeros(len(ids), dtype=np.int32))
            columns[name] = pyarrow.DictionaryArray.from_arrays(index, pyarrow.array([self._settings[name]]))
        metadata = {**self._metadata, **part_metadata(part)}
        table = pyarrow.table(columns).replace_schema_metadata(metadata)
        with whole_file(self._part_path(len(self.parts))) as partial:
            pyarrow.parquet.write_table(table, partial, use_dictionary=["model_digest", "provider", "precision"])
        self.parts.append(part)

    def finish(self) -> None:
        """Note that all items are done."""
        counts = {"items": self.items, "embedded": self.embedded, "parts": len(self.parts)}
        write_job(self.folder / JOB, self._settings, counts)

    def _part_path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def _remove_run(self) -> None:
        """Remove a former run's files; its job is the last of them, so that what a kill leaves is still a run."""
        parts = [path for path in self.folder.iterdir() if _PART_NAME.fullmatch(path.name)]
        for file in (*parts, self.rejects, self.folder / JOB):
            file.unlink(missing_ok=True)

    def _begin(self) -> bool:
        path = self.folder / JOB
        if not path.exists():
            write_job(path, self._settings, None)
            return False
        finished = read_job(path, self._settings)
        self._read_parts()
        self._cut_rejects()
        return finished

    def _read_parts(self) -> None:
        matches = (_PART_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        numbers = sorted(int(match[1]) for match in matches if match)
        for expected, number in enumerate(numbers):
            if number != expected:
                raise InputError(
                    f"{self._part_path(expected)} is gone, but later parts are there. Put it back, or remove the later "
                    "parts too: they are then made again."
                )
            self.parts.append(read_part(self._part_path(number)))
        rows = self._settings["part_rows"]
        for number, part in enumerate(self.parts[:-1]):
            if part.items != rows:
                raise InputError(f"{self._part_path(number)} covers {part.items} items where {rows} are expected.")

    def _cut_rejects(self) -> None:
        length = self.parts[-1].rejects_bytes if self.parts else 0
        there = self.rejects.stat().st_size if self.rejects.exists() else 0
        if there < length:
            raise InputError(
                f"{self.rejects} has {there} bytes where the parts know of {length}: it was cut or removed. Put it "
                "back, or write to another folder."
            )
        if there > length:
            os.truncate(self.rejects, length)
