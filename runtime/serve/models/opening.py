"""Open a bundle for the server, and warm it up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from runtime.engine import Engine
from runtime.engines import PROVIDERS, Session
from runtime.errors import BundleError
from runtime.loading import load
from runtime.serve.decoding.decoder import Decoder, default_processes
from runtime.serve.limits import Limits
from runtime.serve.models.model import Lanes, Model
from runtime.serve.scheduling.graph_lane import GraphLane
from runtime.serve.scheduling.mask_lane import MaskLane
from runtime.serve.scheduling.queued_session import QueuedSession
from runtime.serve.scheduling.scheduler import Scheduler
from runtime.serve.scheduling.text_lane import TextLane, rounded
from runtime.serve.settings import EngineOptions
from runtime.text.packing import Row, widest_row
from runtime.text.text_batches import TextBatch, TextBatches

__all__ = ["Opening", "open_model", "warm_up"]

# Tokens of a batch on a processor: of BERT-base, int8, on 2 cores one of 1,024 computes 10 % more texts a second than
# one of 512 (OpenVINO), one of 2,048 as many.
_LEAST_TOKENS = 1024
# Batches are full, or hold what waited at low load; see `TextLane`.
_SOON_AT_MOST = 320
# What the planner's widths are multiples of.
_COARSE = 32
# Engines that prepare themselves for each shape of a call, which takes as long as some calls do.
_PREPARES_SHAPES = ("openvino", "tensorrt")


@dataclass(frozen=True)
class Opening:
    """How bundles are opened.

    Attributes:
        engine: as `runtime.load` is asked to.
        auto_truncate: whether texts that are too long are cut where neither request nor bundle says.
        decode_processes: child processes that decode images; 0 decodes on threads, None takes as many as suit
            the machine.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    auto_truncate: bool = False
    decode_processes: int | None = None


def open_model(
    name: str,
    path: Path,
    opening: Opening,
    scheduler: Scheduler,
    threads: ThreadPoolExecutor,
    limits: Limits,
) -> tuple[Model, Callable[[], None]]:
    """Open a bundle; nothing is computed yet.

    Args:
        name: that clients call it by.
        path: of the bundle.
        opening: how.
        scheduler: that its lanes are added to.
        threads: for what is called on threads.
        limits: of requests.

    Returns:
        The model, and what gives up its lanes and processes.

    Raises:
        BundleError, ProviderError, InputError: see `runtime.load`.
    """
    digest = bundle_digest(path)
    # Rows of images together; of anything else none: such calls are laid out already.
    images, others = GraphLane("image", 1), GraphLane("call", 1)

    def wrap(session: Session) -> Session:
        return QueuedSession(session, scheduler, images, others)

    asked = opening.engine
    engine = load(
        path,
        provider=asked.provider,
        precision=asked.precision,
        threads=asked.threads,
        min_fidelity=asked.min_fidelity,
        invert_monochrome1=asked.dicom.invert_monochrome1,
        dicom_frame=asked.dicom.frame,
        voi_lut=asked.dicom.voi_lut,
        pixel_padding=asked.dicom.padding,
        fast_decode=asked.fast_decode,
        refuse_long=asked.refuse_long,
        text_cache=asked.text_cache,
        share=asked.share,
        trial=asked.trial,
        wrap_session=wrap,
    )
    lanes = _lanes(engine)
    decoder = None
    if engine.manifest.image is not None:
        images.largest = 1 if PROVIDERS[engine.provider].whole_batches else engine.image.batch
        encoder = engine.image
        processes = default_processes() if opening.decode_processes is None else opening.decode_processes
        decoder = Decoder(
            encoder.preprocessing, encoder.dicom, limits, processes=processes, fast_decode=asked.fast_decode
        )
        decoder.start()
    added = [lane for lane in (lanes.text, lanes.mask, images, others) if lane is not None]
    for lane in added:
        scheduler.add(lane)

    def close() -> None:
        for lane in added:
            scheduler.remove(lane)
        if decoder is not None:
            decoder.close()

    return Model(name, engine, digest, scheduler, lanes, decoder, threads, limits, opening.auto_truncate), close


def bundle_digest(path: Path) -> str:
    """What changes with any file of a bundle: its manifest's sha256; raises BundleError where there is none."""
    try:
        return hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"There is no bundle at {path}: {error.strerror}.") from None


def _lanes(engine: Engine) -> Lanes:
    if engine.manifest.text is None:
        return Lanes(None, None)
    batches = engine.text.batches
    budget = max(batches.token_budget, _LEAST_TOKENS)
    sessions = batches.sessions
    bulk = _inner(sessions.bulk()) if batches.packed and sessions.streams > 1 else None
    text = TextLane(batches, _inner(sessions.single), budget, bulk, sessions.streams)
    try:
        masks = engine.text.masks
        session = _inner(masks.sessions().single)
    except BundleError:  # it fills none; a request for it is told why
        return Lanes(text, None)
    return Lanes(text, MaskLane(masks, session, batches.token_budget))


def _inner(session: Session) -> Session:
    assert isinstance(session, QueuedSession), "every session of this engine was wrapped"
    return session.inner


def warm_up(model: Model) -> int:
    """Compute every shape that the lanes make once, and open what is opened at the first use; calls that came.

    Runs on the calling thread, and waits for its turns: requests to other bundles go on.
    """
    engine, calls = model.engine, 0
    every_shape = engine.provider in _PREPARES_SHAPES
    if engine.manifest.text is not None:
        batches = engine.text.batches
        for rows, width in _shapes(batches, model.token_budget, every_shape):
            batches.sessions.single.run(["text_embeds"], _full(batches, rows, width).inputs)
            calls += 1
        if batches.packed and batches.sessions.streams > 1:
            calls += _warm_up_bulk(batches)
        if model.fills_masks:
            for text in ("[MASK]", "no [MASK] effusion", "there is a moderate [MASK] effusion on the left side today"):
                engine.text.fill_mask(text)
                calls += 1
    if engine.manifest.image is not None:
        shape = engine.image.preprocessing.shape
        for count in range(1, engine.image.batch + 1):
            engine.image.encode_pixels(np.zeros((count, *shape), np.uint8))
            calls += 1
        if engine.image.grid is not None and engine.manifest.text is not None:
            engine.image.encode_pixels_and_patches(np.zeros((1, *shape), np.uint8))
            calls += 1
    return calls


def _warm_up_bulk(batches: TextBatches) -> int:
    """Compute what fills a batch on every stream; not through the queue, where calls have the engine to themselves."""
    session, streams = _inner(batches.sessions.bulk()), batches.sessions.streams
    widths = range(_COARSE, widest_row(batches.longest) + 1, _COARSE)
    shapes = [(max(1, batches.token_budget // width), width) for width in widths]

    def compute(_: int) -> None:
        for rows, width in shapes:
            session.run(["text_embeds"], _full(batches, rows, width).inputs)

    with ThreadPoolExecutor(streams) as threads:
        list(threads.map(compute, range(streams)))
    return len(shapes) * streams


def _full(batches: TextBatches, rows: int, width: int) -> TextBatch:
    """A batch of that shape, of texts that are no longer than texts may be."""
    texts = [[batches.pad_token_id] * min(width, batches.longest)] * rows
    return batches.lay_out([Row(width, (index,)) for index in range(rows)], texts)


def _shapes(batches: TextBatches, budget: int, every: bool) -> Iterator[tuple[int, int]]:
    """Rows and widths of the batches that are computed, the largest first."""
    longest = batches.longest
    if not batches.packed or not every:
        # Padded batches have as many shapes as there are lengths; the largest and the smallest allocate the memory.
        yield from ((max(1, budget // width), width) for width in sorted({longest, min(128, longest)}, reverse=True))
        yield 1, min(_COARSE, longest)
        return
    for rows in range(budget // _COARSE, 0, -1):
        widths = {rounded(rows, width) for width in range(1, widest_row(longest) + 1)}
        for width in sorted(widths, reverse=True):
            if rows == 1 or rows * width <= _SOON_AT_MOST or budget - width < rows * width <= budget:
                yield rows, width
