"""A stream of items → their embeddings, a chunk at a time; what cannot be used is left out, or all of it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.archive.items import Stream
from runtime.archive.records import Reject, reject_line
from runtime.engine import Engine
from runtime.errors import Fault, InputError, MissingExtraError
from runtime.files import Item, Unusable
from runtime.files.replaceable import real_path, wrote
from runtime.files.whole_file import whole_file
from runtime.process import print_note
from runtime.process.progress import Progress

__all__ = ["Chunk", "Embedded", "embed_items", "embed_stream", "settle_rejects"]

_CHUNK = 2048


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items of a stream.

    Attributes:
        ids: of the good ones, in order.
        rows: float32 (len(ids), D): their embeddings; (0, D) from the chunk on where a bad item ended the work.
        rejects: the bad ones, in order.
    """

    ids: list[str]
    rows: NDArray[np.float32]
    rejects: list[Reject]


@dataclass(frozen=True)
class Embedded:
    """What became of some items: the embeddings of the good ones in order, and reasons by position for the others."""

    rows: NDArray[np.float32]
    reasons: dict[int, str]


def embed_stream(engine: Engine, stream: Stream, skip_bad: bool) -> Iterator[Chunk]:
    """Embed everything, one chunk in memory at a time, and count it on stderr.

    Args:
        engine: with the stream's part loaded.
        stream: what to embed.
        skip_bad: go on after a bad item. Without it nothing more is computed: what follows is only checked, so that all
            bad items can be named; pass all rejects to `settle_rejects`, which raises.

    Raises:
        InputError: an input that breaks in the middle.
        MissingExtraError: a file's format needs an optional package, unless `skip_bad`.
    """
    items, start, stopped = iter(stream), 0, False
    nothing = np.empty((0, _encoder(engine, stream.part).embedding_size), np.float32)
    with Progress(stream.part, stream.total) as progress:
        while chunk := list(islice(items, _CHUNK)):
            if stopped:
                reasons, rows = _check(engine, stream.part, chunk), nothing
                progress.advance(len(chunk))
            else:
                found = embed_items(engine, stream, chunk, skip_bad, not skip_bad, progress.advance)
                stopped = bool(found.reasons) and not skip_bad
                reasons, rows = found.reasons, nothing if stopped else found.rows
            ids = [item.id for index, item in enumerate(chunk) if index not in reasons]
            rejects = [Reject(chunk[index].id, start + index, reasons[index]) for index in sorted(reasons)]
            yield Chunk(ids, rows, rejects)
            start += len(chunk)


def settle_rejects(
    part: str, rejects: Sequence[Reject], total: int, skip_bad: bool, file: Path | None = None, replace: bool = True
) -> None:
    """Say what could not be used, once all of it is known.

    Args:
        part: "text" or "image": what the items are.
        rejects: the bad ones; none says nothing.
        total: number of items, good or bad.
        skip_bad: they were left out; otherwise they are an error.
        file: list them there (JSON lines) rather than on stderr; goes with `skip_bad`. Without bad items a list that an
            earlier run wrote there is removed.
        replace: see `whole_files`.

    Raises:
        InputError: there are bad items, and they were not to be left out.
    """
    if not rejects:
        if file is not None and file.is_file() and wrote(file):
            real_path(file).unlink()
        return
    if file is not None:
        with whole_file(file, replace) as partial:
            partial.write_bytes(b"".join(map(reject_line, rejects)))
        print_note(f"{len(rejects)} of {total} {part}s cannot be used → {file}")
        return
    faults = [Fault(reject.index, reject.id, reject.reason) for reject in rejects]
    error = InputError.from_faults(f"{part}s", faults, total, shown=None)
    if not skip_bad:
        raise InputError(f"{error}\nNothing was written. Leave these out with --skip-bad.", faults)
    print_note(f"Skipped: {error}")


def embed_items(
    engine: Engine, stream: Stream, items: Sequence[Item], skip_missing: bool, stop: bool, advance: Callable[[], None]
) -> Embedded:
    """Embed some items in one call of `encode_iter`.

    Args:
        engine: with that part loaded.
        stream: what they are of.
        items: what to embed.
        skip_missing: files that need an optional package are bad items rather than an error.
        stop: the first bad item ends it; the others are checked only, and the rows mean nothing.
        advance: called for each item done.
    """
    reasons = {index: item.value.reason for index, item in enumerate(items) if isinstance(item.value, Unusable)}
    try:
        return _embed_good(engine, stream, items, reasons, stop, advance)
    except MissingExtraError:
        if not skip_missing:
            raise
    # encode_iter cannot go on after this error, so the files that cause it are told apart first.
    return _embed_good(engine, stream, items, _check(engine, stream.part, items), stop, advance)


def _embed_good(
    engine: Engine,
    stream: Stream,
    items: Sequence[Item],
    known: Mapping[int, str],
    stop: bool,
    advance: Callable[[], None],
) -> Embedded:
    kind = stream.part
    encoder = _encoder(engine, kind)
    reasons = dict(known)
    positions = [index for index in range(len(items)) if index not in reasons]
    named: dict[str, Any] = {"prompt_name": stream.prompt_name} if kind == "text" else {}
    if any(item.previous is not None for item in items):
        named["previous"] = [items[index].previous for index in positions]
    rows: list[NDArray[np.float32]] = []

    def on_fault(fault: Fault) -> None:
        place = positions[fault.index]
        own = items[place].previous is None or fault.name == items[place].value
        reasons[place] = fault.reason if own else f"{fault.name}: {fault.reason}"

    for _ in known:
        advance()
    found: Any = encoder.encode_iter([items[index].value for index in positions], on_fault=on_fault, **named)
    try:
        for row in found:
            if row is not None:
                rows.append(row)
            advance()
            if stop and reasons:
                reasons.update(_check(engine, kind, items))
                break
    finally:
        found.close()  # threads at work beneath it must end before anything else does
    return Embedded(np.stack(rows) if rows else np.empty((0, encoder.embedding_size), np.float32), reasons)


def _check(engine: Engine, kind: str, items: Sequence[Item]) -> dict[int, str]:
    """Reasons of the bad items, without computing embeddings."""
    reasons = {index: item.value.reason for index, item in enumerate(items) if isinstance(item.value, Unusable)}
    positions = [index for index in range(len(items)) if index not in reasons]
    if kind == "text":
        _, faults = engine.text.tokenizer.try_encode([items[index].value for index in positions])
        return {**reasons, **{positions[fault.index]: fault.reason for fault in faults}}
    for index in positions:
        item = items[index]
        try:
            _, faults = engine.image.load([each for each in (item.value, item.previous) if each is not None])
        except MissingExtraError as error:
            reasons[index] = str(error)
        else:
            if faults:
                of_previous = f"{faults[0].name} (the previous image): " if faults[0].index else ""
                reasons[index] = f"{of_previous}{faults[0].reason}"
    return reasons


def _encoder(engine: Engine, kind: str) -> Any:
    return engine.text if kind == "text" else engine.image
