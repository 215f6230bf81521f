"""Open a bundle and put its parts together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from runtime.bundle import PAIR, PATCHES, open_bundle
from runtime.choice import MIN_FIDELITY
from runtime.choice.decision import Plan, decide
from runtime.choice.opening import default_streams, open_face, open_sessions, open_text
from runtime.choice.precision import check_min_fidelity
from runtime.choice.settings import EngineSettings, PartSettings
from runtime.choice.trial import kept_trials, make_trials
from runtime.choice.tuned import read_tuning
from runtime.engine import Engine
from runtime.engines import Provider, Session, SessionOptions, choose_provider
from runtime.engines.cores import check_threads
from runtime.errors import BundleError, CxrEngineError, InputError, ProviderError
from runtime.image.dicom_options import DicomOptions
from runtime.process import flag, items_of, shown
from runtime.process.cache import cache_root
from runtime.process.checks import whole_number
from runtime.text import TextEncoder
from runtime.text.embedding_cache import TEXT_CACHE

if TYPE_CHECKING:
    from runtime.image.encoder import ImageEncoder

__all__ = ["load", "open_engine"]

_PARTS = ("text", "image")
_LOG = logging.getLogger("runtime")


def load(
    bundle: str | os.PathLike[str],
    provider: str = "auto",
    precision: str | Mapping[str, str] = "auto",
    threads: int | None = None,
    *,
    min_fidelity: float = MIN_FIDELITY,
    parts: str | Iterable[str] | None = None,
    invert_monochrome1: bool = True,
    dicom_frame: int | None = None,
    voi_lut: bool = False,
    pixel_padding: str = "auto",
    fast_decode: bool = False,
    refuse_long: bool = False,
    text_cache: int = TEXT_CACHE,
    share: bool = False,
    trial: bool = True,
    wrap_session: Callable[[Session], Session] | None = None,
) -> Engine:
    """Open a bundle for inference. Every file that is used is compared with the manifest's sha256 first.

    The engine keeps to the bundle that was there at that moment: what it opens later is compared again, and raises
    BundleError where it was replaced or changed meanwhile. It may be used from any number of threads. Used in a forked
    child it opens anew (OpenVINO and CUDA raise ProviderError there); pickled, it opens anew where it is unpickled.

    ONNX Runtime opens int8 graphs in a third of the time with weights as they lie in the file; from a graph's second
    call on, a thread opens it with weights laid out for speed, and that takes over. Results are the same bits.

    Args:
        bundle: folder written by `python -m export`.
        provider: "cpu", "openvino", "cuda", "tensorrt", or "auto" for the fastest that works (`engine.provider` says
            which, `engine.reason` why): as `python -m runtime tune` found on this machine; else cuda, then the
            processor's engine that is faster by the bundle's records of this very processor, or in a trial on it (see
            `trial`), or by records of another one that it has every engine's time of; else the first of cuda, cpu and
            openvino. A named provider that cannot run raises.
        precision: what to compute in: a precision of the bundle; "bf16", which OpenVINO makes of fp32 and which is
            refused where it would be emulated slowly; or "auto" for the fastest, part by part, whose recorded fidelity
            on that provider reaches `min_fidelity`, else fp32 (`engine.precision` and `engine.fidelity` say which; a
            line at level INFO of the logger "runtime" says why). A mapping names one for each part:
            {"text": "int8-dynamic", "image": "int8"}; parts that it lacks are "auto".
        threads: threads for one inference; None takes the processors this process may run on. Streams and batch of
            bulk work are as tuned with as many threads, if they were.
        min_fidelity: smallest mean cosine to PyTorch fp32 on held-out data that precision="auto" accepts, in [0, 1].
        parts: load only these of "text" and "image", or the one that a str names; None loads all the bundle has.
        invert_monochrome1: turn MONOCHROME1 DICOM, where 0 is white, the right way up, as the training data was; also
            DICOM whose rescale slope is negative. False gives the reference implementation's behaviour, which does not.
        dicom_frame: which frame of DICOM files that hold several to take, from 1. None refuses such files. Files with
            one frame are not affected.
        voi_lut: apply the Modality LUT (or rescale) and the first VOI LUT or window of DICOM files, as a viewer does,
            before values are stretched to 0–255. The reference, and the training data, did not.
        pixel_padding: "auto" leaves the pixel padding of DICOM files out (it becomes black) where it would leave the
            film less than half of the grey levels; "exclude" always does; "keep" never, as the reference.
        fast_decode: decode a JPEG file to a half, a quarter or an eighth, which its format offers, as long as its
            shorter side keeps the length that it is resized to (512). 2,500 × 2,048 pixels take 9 ms instead of 21, but
            they are not the reference's: they differ by 1.4 of 255 in the mean, and the embeddings of a small trained
            model have a mean cosine of 0.9994 to the exact ones (least 0.9985; patches 0.998, least 0.93).
        refuse_long: refuse texts of more tokens than the system reads, also where it cuts them (CLIP at 77 tokens).
        text_cache: texts of earlier calls whose embeddings are kept, 0 for none: a text that comes again, a prompt or a
            query, is not computed again. Those not asked for longest are dropped. 4,096 take about 3 MB for CXR-BERT.
        share: other processes use the same processors: threads that wait do not spin.
        trial: whether provider="auto" may try the processor's engines side by side, where nothing else tells which is
            faster and one would compute in less than fp32: once for a bundle, machine, number of threads and versions
            of the engines, 2 seconds beside starting a process and opening both. What was found is kept in the user's
            cache folder; where that cannot be written nothing is tried. False goes by what is kept, and tries nothing.
        wrap_session: what is made of each of its sessions when it is opened, such as one whose calls wait for their
            turn; None leaves them as they are. An engine that is unpickled has no such.

    Returns:
        An engine with the methods `text.encode`, `image.encode`, `image.encode_patches`, `similarity`,
        `similarity_map`, `ground`, `ground_phrases`, `classify` and `progression`.

    Raises:
        BundleError: no bundle there, files missing or changed, a newer schema, a part or precision that it lacks for
            that provider (those it has are listed).
        ProviderError: the provider cannot run here, or not in that precision; the message says why and what to do.
        InputError: an argument of a wrong type; threads below 1 or far beyond the machine, min_fidelity outside [0, 1],
            an unknown part, frame or pixel_padding, text_cache below 0.

    Example:
        >>> engine = runtime.load("bundles/biovil", provider="cpu")
        >>> engine.similarity("chest.png", ["Pleural effusion", "Fluid in the pleural space"])
    """
    threads = check_threads(threads)
    dicom = DicomOptions(invert_monochrome1, dicom_frame, voi_lut, pixel_padding)
    min_fidelity = check_min_fidelity(min_fidelity)
    fast_decode, share = flag("fast_decode", fast_decode), flag("share", share)
    refuse_long, text_cache = flag("refuse_long", refuse_long), whole_number("text_cache", text_cache, least=0)
    trials = make_trials if flag("trial", trial) else kept_trials
    asked = None if parts is None else _parts(parts)
    opened = open_bundle(bundle)
    wanted = opened.parts() if asked is None else asked
    for part in wanted:
        opened.artifacts(part)  # raises for a part that the bundle lacks
    by_part = _precisions(precision, wanted)
    tuning = read_tuning(opened)
    plans, failures = decide(opened, wanted, provider, by_part, min_fidelity, threads, tuning, partial(trials, opened))
    for plan in plans:
        passed_over = ", ".join(other.provider.name for other in plans[: plans.index(plan)])
        reason = plan.reason + (f"; {passed_over} could not open it" if passed_over else "")
        settings = EngineSettings(
            opened,
            plan.provider.name,
            reason,
            {part: _part(plan, part) for part in wanted},
            threads=plan.threads,
            share=share,
            dicom=dicom,
            fast_decode=fast_decode,
            refuse_long=refuse_long,
            text_cache=text_cache,
        )
        try:
            engine = open_engine(settings, plan.provider, wrap_session)
        except ProviderError as error:
            failures[plan.provider.name] = error
            continue
        break
    else:
        raise _one_error(failures)
    _LOG.info("%s", reason)
    for part, each in settings.parts.items():
        choice, bulk = each.choice, f"streams={each.streams} for bulk work"
        bulk += f", batch={each.batch}, as tuned" if plan.row(part) else ""
        _LOG.info("%s on %s: %s; %s", choice, plan.provider.name, choice.reason, bulk)
    return engine


def _parts(parts: str | Iterable[str]) -> tuple[str, ...]:
    listed = items_of(parts, "parts", "'text', 'image' or a list of those, or None for all", ordered=False)
    for part in listed:
        if not isinstance(part, str) or part not in _PARTS:
            raise InputError(f"There is no part {shown(part)}; there are: {', '.join(_PARTS)}.")
    if not listed:
        raise InputError("The list of parts is empty; 'text', 'image' or both are expected, or None for all.")
    return tuple(dict.fromkeys(listed))


def _precisions(precision: str | Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """The precision of each part, as far as it is named."""
    by_part = dict.fromkeys(wanted, precision) if isinstance(precision, str) else precision
    if not isinstance(by_part, Mapping):
        raise InputError(
            f"precision={shown(precision)}; a precision (str) is expected, such as 'fp32' or 'auto', or "
            "{part: precision}, such as {'text': 'int8'}."
        )
    for part, name in by_part.items():
        if part not in wanted:
            raise InputError(f"precision names the part {shown(part)}; loaded are: {', '.join(wanted)}.")
        if not isinstance(name, str):
            raise InputError(f"precision of the part '{part}' is {shown(name)}; a precision (str) is expected.")
    return dict(by_part)


def _part(plan: Plan, part: str) -> PartSettings:
    row = plan.row(part)
    if row is None:
        return PartSettings(plan.choices[part], default_streams(plan.provider, plan.threads), None)
    return PartSettings(plan.choices[part], row.streams, row.batch)


def _one_error(failures: Mapping[str, CxrEngineError]) -> CxrEngineError:
    """What to raise when every provider tried has failed."""
    if len({str(error) for error in failures.values()}) == 1:
        return next(iter(failures.values()))
    reasons = "\n".join(f"  {name}: {error}" for name, error in failures.items())
    kind = BundleError if all(isinstance(error, BundleError) for error in failures.values()) else ProviderError
    return kind(f"No inference engine here can run this:\n{reasons}")


def open_engine(
    settings: EngineSettings, provider: Provider, wrap_session: Callable[[Session], Session] | None = None
) -> Engine:
    """Open an engine as it was decided.

    Args:
        settings: what was decided.
        provider: the inference engine of that name.
        wrap_session: see `load`.

    Raises:
        BundleError: a file was changed.
        ProviderError: the inference engine cannot open it.
    """
    bundle = settings.bundle
    cache = cache_root()
    options = {
        part: SessionOptions(settings.threads, each.choice.precision, share=settings.share, cache=cache)
        for part, each in settings.parts.items()
    }
    if wrap_session is not None:
        options = {part: replace(each, wrap=wrap_session) for part, each in options.items()}
    sessions = {
        part: open_sessions(bundle, each.choice, provider, options[part], each.streams)
        for part, each in settings.parts.items()
    }
    text, image = None, None
    if "text" in sessions:
        each = settings.parts["text"]
        text = open_text(
            bundle,
            each.choice,
            provider,
            sessions["text"],
            each.batch,
            masks=options["text"],
            refuse_long=settings.refuse_long,
            cache=settings.text_cache,
            reduced=(_reopen_text, (settings.alone("text"),)),
        )
    if "image" in sessions:
        from runtime.image.encoder import ImageEncoder  # Pillow is imported with the first image part

        part, chosen = bundle.image_part(), settings.parts["image"]
        roles = {each.role for each in bundle.manifest.image.artifacts} if bundle.manifest.image else set()
        pairs, patches = (
            partial(open_face, bundle, chosen.choice, role, provider, options["image"], chosen.streams)
            for role in (PAIR, PATCHES)
        )
        image = ImageEncoder(
            part,
            sessions["image"],
            settings.dicom,
            fast_decode=settings.fast_decode,
            threads=settings.threads,
            batch=chosen.batch or provider.batch["image"],
            open_pairs=pairs if part.images > 1 else None,
            open_patches=patches if PATCHES in roles else None,
            reduced=(_reopen_image, (settings.alone("image"),)),
        )
    bundle.files.in_use = True
    choices = {part: each.choice for part, each in settings.parts.items()}
    return Engine(bundle, settings.provider, choices, text, image, settings.reason, (_reopen, (settings,)))


def _reopen(settings: EngineSettings) -> Engine:
    """The engine that was pickled."""
    (provider,) = choose_provider(settings.provider)
    for each in settings.parts.values():
        refused = provider.refuses(each.choice.precision)
        if refused:
            raise ProviderError(refused)
    settings.bundle.files.in_use = True
    return open_engine(settings, provider)


def _reopen_text(settings: EngineSettings) -> TextEncoder:
    return _reopen(settings).text


def _reopen_image(settings: EngineSettings) -> ImageEncoder:
    return _reopen(settings).image
