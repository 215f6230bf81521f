"""What the artifacts of a bundle are measured by: its own fp32 graphs, on held-out data and labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from export.progress import Steps
from export.proof.fidelity import IMAGE_OUTPUTS, embed_images, embed_texts, other_images
from export.proof.judge import Judge, image_judge, reference_noise, text_cases, text_judge, working_engines
from export.proof.zero_shot import ZeroShot, zero_shot_by_graphs
from export.samples import ImageData, image_data, text_data
from export.samples.zero_shot import ZeroShotSources, joint_of, zero_shot_data
from runtime.bundle import EMBEDDING, PAIR, PATCHES, Bundle
from runtime.bundle.older import present_names
from runtime.engines import PROVIDERS, Provider, Session, SessionOptions, choose_provider
from runtime.engines.providers import default_threads
from runtime.errors import BundleError
from runtime.text import Tokenizer

__all__ = ["HeldOutSources", "judges_of", "pairs_judge_of", "processor", "zero_shot_of"]


@dataclass(frozen=True)
class HeldOutSources:
    """Of held-out data, see `export.proof.verify.verify_bundle`."""

    text: Path | None
    column: str
    paired: str | None
    images: Path | None


class _Counts(TypedDict, total=False):
    count: int
    held_out: int
    seed: int


def processor() -> Provider:
    """The engine on which the fp32 graphs are the reference."""
    return choose_provider("cpu" if PROVIDERS["cpu"].missing() is None else "openvino")[0]


def zero_shot_of(bundle: Bundle, sources: ZeroShotSources, chosen: list[str], steps: Steps) -> ZeroShot:
    """Embed labelled images and prompts.

    Args:
        bundle: with both parts.
        sources: where they are.
        chosen: names of the engines to be measured.
        steps: takes remarks.

    Raises:
        BundleError, CalibrationError, InputError, ProviderError: see `export.proof.verify.verify_bundle`.
    """
    joint = joint_of(bundle.root, bundle.manifest.joint)
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    data = zero_shot_data(sources, tokenizer, bundle.image_part().preprocessing, joint, note=steps.note)
    text, image = (_opened(bundle, part, chosen)[0] for part in ("text", "image"))
    return zero_shot_by_graphs(data, _todays(bundle, text), image)


def judges_of(
    bundle: Bundle, part: str, sources: HeldOutSources, chosen: list[str], zero_shot: ZeroShot | None, steps: Steps
) -> tuple[Judge, Judge | None]:
    """A judge of one part's artifacts, and one of their twins that embed patches; None where there are none.

    Args:
        bundle: that they are in.
        part: "text" or "image".
        sources: of held-out data.
        chosen: names of the engines to be measured.
        zero_shot: measures the change of zero-shot classification as well.
        steps: takes remarks.

    Raises:
        BundleError, CalibrationError, ProviderError: see `export.proof.verify.verify_bundle`.
    """
    # Same counts, same seed: of the file that the bundle was calibrated with, the held-out part is the same.
    known = bundle.manifest.calibration.get(part)
    counts: _Counts = {"count": known.items, "held_out": known.held_out, "seed": known.seed} if known else {}
    if part == "image":
        rule = bundle.image_part().preprocessing
        images = image_data(sources.images, rule, note=steps.note, **counts)
        extra = zero_shot.image_figures if zero_shot else None
        judge = _image_judge(bundle, EMBEDDING, images, chosen, extra)
        return judge, _image_judge(bundle, PATCHES, images, chosen) if bundle.artifacts(part, role=PATCHES) else None
    session, able, model = _opened(bundle, part, chosen)
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    texts = text_data(sources.text, tokenizer, column=sources.column, paired=sources.paired, note=steps.note, **counts)
    cases, digest = text_cases(texts, tokenizer), texts.record.held_out_sha256
    embeds = embed_texts(session, cases.rows, tokenizer.pad_token_id)
    noise = reference_noise(
        model,
        able,
        processor().name,
        lambda session: embed_texts(session, cases.held_out, tokenizer.pad_token_id),
        embeds[: len(cases.held_out)],
    )
    vocab_size = 1 + max(max(row) for row in texts.held_out)
    more = (lambda session: zero_shot.text_figures(_todays(bundle, session))) if zero_shot else None
    return text_judge(embeds, cases, tokenizer, vocab_size, digest, able, noise, extra=more), None


def pairs_judge_of(bundle: Bundle, sources: HeldOutSources, chosen: list[str], steps: Steps) -> Judge:
    """A judge of graphs of pairs: by held-out images, each with another one of them as its previous image."""
    known, rule = bundle.manifest.calibration.get("image"), bundle.image_part().preprocessing
    counts: _Counts = {"count": known.items, "held_out": known.held_out, "seed": known.seed} if known else {}
    return _image_judge(bundle, PAIR, image_data(sources.images, rule, note=steps.note, **counts), chosen)


def _image_judge(
    bundle: Bundle,
    role: str,
    images: ImageData,
    chosen: list[str],
    extra: Callable[[Session], dict[str, float]] | None = None,
) -> Judge:
    """By what the fp32 graph of a role embeds: pictures, and patches where it embeds any."""
    session, able, model = _opened(bundle, "image", chosen, role)
    there = {each.name for each in bundle.artifact("image", "fp32", role, processor().name).outputs}
    outputs = [name for name in IMAGE_OUTPUTS if name in there]
    pixels, digest = images.held_out, images.record.held_out_sha256
    previous = other_images(pixels) if role == PAIR else None
    expected = embed_images(session, pixels, outputs, previous)
    noise = reference_noise(
        model,
        able,
        processor().name,
        lambda session: embed_images(session, pixels, outputs[:1], previous)[0],
        expected[0],
    )
    return image_judge(expected, pixels, digest, able, noise, extra=extra, previous=previous)


def _opened(
    bundle: Bundle, part: str, chosen: list[str], role: str = EMBEDDING
) -> tuple[Session, tuple[Provider, ...], Path]:
    """The fp32 graph on a processor, the chosen engines that run it, and its file."""
    reference = processor()
    try:
        model = bundle.path(bundle.artifact(part, "fp32", role, reference.name).file)
    except BundleError:
        raise BundleError(
            f"{bundle.root} has no {part} artifact in fp32 to compare with. Export it with --precision fp32,…"
        ) from None
    options = SessionOptions(threads=default_threads(), precision="fp32")
    if len(chosen) == 1:
        PROVIDERS[chosen[0]].open(model, options)  # raises, with the reason, where the one engine asked for cannot run
    return reference.open(model, options), working_engines(model, chosen), model


def _todays(bundle: Bundle, text: Session) -> Session:
    """A text graph of the bundle, all of which name their tensors alike, asked by today's names."""
    return present_names(text, bundle.artifacts("text")[0])
