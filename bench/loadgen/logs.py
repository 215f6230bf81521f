"""What LoadGen writes: mlperf_log_detail.txt, mlperf_log_trace.json and mlperf_log_accuracy.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import PeerError
from runtime.errors import InputError
from runtime.files import check_folder_destination, files_below

__all__ = ["Detail", "check_logs", "read_answers", "read_detail", "read_latencies"]

_DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "
# When each sample was answered, counted from when its query was due; the file is not quite JSON.
_SAMPLE = re.compile(r'^\{"name":"Sample",.*"query_seq":(\d+),.*"complete_ns":(\d+)')


@dataclass(frozen=True)
class Detail:
    """LoadGen's verdict and figures.

    Attributes:
        values: by their names in the log, such as "result_validity".
        errors: what LoadGen calls errors.
    """

    values: dict[str, Any]
    errors: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether the run is valid by LoadGen's rules."""
        return bool(self.values["result_validity"] == "VALID")

    @property
    def too_few(self) -> bool:
        """Whether the only thing amiss is that early stopping wants more queries."""
        return not self.errors and not self.values["early_stopping_met"] and not self.values["result_invalid_reason"]

    @property
    def reason(self) -> str:
        """Why it is not valid, in LoadGen's words."""
        if self.valid:
            return ""
        said = [*self.errors, self.values.get("result_invalid_reason", "")]
        if not self.values.get("early_stopping_met", True):
            said.append(self.values.get("early_stopping_result", ""))
        return " ".join(" ".join(said).replace(" * ", " ").split())

    def number(self, key: str) -> float:
        """A figure.

        Raises:
            PeerError: the log has none of that name.
        """
        if not isinstance(self.values.get(key), int | float):
            raise PeerError(f"LoadGen's log has no number '{key}'; LoadGen says: {self.reason or 'nothing'}")
        return float(self.values[key])


def check_logs(folder: Path, systems: Iterable[str], bundle: Path, force: bool) -> None:
    """Fail before LoadGen writes through files that are there.

    Args:
        folder: where the folders of runs go, which begin with the name of their system.
        systems: that are run.
        bundle: that is run.
        force: replace files that LoadGen did not write.

    Raises:
        InputError: the folder is in the bundle, or a file in it is one of the bundle's; a run's folder holds no logs of
            LoadGen, and `force` is not given.
    """
    check_folder_destination(folder, [], [bundle], "--logs")
    for run in sorted(path for system in systems for path in folder.glob(f"{system}-*")):
        if force or not files_below(run):
            continue
        try:
            with (run / _DETAIL).open("rb") as stream:
                known = stream.read(len(_MARK)) == _MARK.encode()
        except OSError:
            known = False
        if not known:
            raise InputError(f"{run} holds files that LoadGen did not write. Give other --logs, or use --force.")


def read_detail(folder: Path) -> Detail:
    """Read the verdict of a performance run.

    Raises:
        PeerError: LoadGen came to none.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    for line in _read(folder / _DETAIL).splitlines():
        try:
            entry = json.loads(line.removeprefix(_MARK))
        except ValueError:  # a figure that is no number, such as the rate of a single query
            continue
        values[entry["key"]] = entry["value"]
        if entry["metadata"]["is_error"]:
            errors.append(str(entry["value"]))
    if "result_validity" not in values:
        raise PeerError(f"LoadGen came to no result: {' '.join(errors) or 'its detail log ends without one'}")
    return Detail(values, errors)


def read_latencies(folder: Path) -> list[float]:
    """Seconds from when each query was due until its last sample was answered, in the order of the queries."""
    last: dict[int, int] = {}
    with (folder / "mlperf_log_trace.json").open(encoding="utf-8") as lines:
        for line in lines:
            if found := _SAMPLE.match(line):
                query, nanoseconds = int(found[1]), int(found[2])
                last[query] = max(last.get(query, 0), nanoseconds)
    return [last[query] / 1e9 for query in sorted(last)]


def read_answers(folder: Path) -> tuple[list[int], NDArray[np.float32]]:
    """The answers of an accuracy run.

    Returns:
        Numbers of the samples, and their embeddings, float32 (N, D). MultiStream asks for some samples twice.

    Raises:
        PeerError: there are none, or not all have the same size.
    """
    entries = json.loads(_read(folder / "mlperf_log_accuracy.json"))
    if not entries:
        raise PeerError("LoadGen logged no answers")
    sizes = {len(entry["data"]) for entry in entries}
    if len(sizes) > 1 or 0 in sizes:
        raise PeerError(
            f"LoadGen logged answers of {sorted(size // 8 for size in sizes)} numbers, one size is expected"
        )
    embeddings = np.frombuffer(bytes.fromhex("".join(entry["data"] for entry in entries)), np.float32)
    return [entry["qsl_idx"] for entry in entries], embeddings.reshape(len(entries), -1)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PeerError(f"LoadGen left no log: {error}") from None
