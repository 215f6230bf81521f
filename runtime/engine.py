"""Open a bundle and put its parts together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle, open_bundle
from runtime.cores import check_threads
from runtime.decision import Plan, decide
from runtime.dicom import DicomOptions
from runtime.errors import BundleError, CxrEngineError, InputError, ProviderError
from runtime.grounding import Grounding
from runtime.joint import average_prompts, ground_phrases
from runtime.manifest import FidelityRecord, Manifest
from runtime.opening import default_streams, open_sessions, open_text
from runtime.precision import MIN_FIDELITY, Choice
from runtime.session import SessionOptions
from runtime.sessions import Sessions
from runtime.text import TextEncoder
from runtime.tuned import Row, read_tuning
from runtime.zero_shot import ZeroShotClassifier, build_classifier, classify, resolve

if TYPE_CHECKING:  # Pillow is imported with the first image part
    from PIL.Image import Image

    from runtime.image import ImageEncoder
    from runtime.images import ImageLike
    from runtime.prompts import Prompts

__all__ = ["Engine", "load"]

_LOG = logging.getLogger("runtime")
_CLASSIFIERS = 64  # kept for prompts that come again; 14 labels take 14 kB


class Engine:
    """A loaded bundle; made by `runtime.load`.

    Attributes:
        provider: the inference engine that runs it ("cpu", "openvino", "cuda" or "tensorrt").
        precision: what each part is computed in: {"text": "int8", …}.
        fidelity: what was measured of each part on this provider in this precision, on held-out data, when the bundle
            was exported or last verified; None where nothing was. Its `processor` may not be this machine's.
        choices: the artifact of each part and why it was chosen.
        reason: why this engine, in one sentence: asked for, tuned, the fastest by the bundle's records, …
        manifest: everything known about the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str,
        choices: Mapping[str, Choice],
        text: TextEncoder | None,
        image: ImageEncoder | None,
        reason: str,
    ) -> None:
        self.provider = provider
        self.reason = reason
        self.choices = dict(choices)
        self.precision: dict[str, str] = {part: choice.precision for part, choice in choices.items()}
        self.fidelity: dict[str, FidelityRecord | None] = {part: choice.fidelity for part, choice in choices.items()}
        self.manifest: Manifest = bundle.manifest
        self._bundle = bundle
        self._text = text
        self._image = image
        self._classifier = lru_cache(_CLASSIFIERS)(build_classifier)

    @property
    def text(self) -> TextEncoder:
        """The text encoder.

        Raises:
            BundleError: the bundle has no text part, or it was not loaded.
        """
        if self._text is None:
            self._bundle.text_part()
            raise BundleError("The text part was not loaded: load() was told to load other parts only.")
        return self._text

    @property
    def image(self) -> ImageEncoder:
        """The image encoder.

        Raises:
            BundleError: the bundle has no image part, or it was not loaded.
        """
        if self._image is None:
            self._bundle.image_part()
            raise BundleError("The image part was not loaded: load() was told to load other parts only.")
        return self._image

    def similarity(self, image: ImageLike, texts: str | Sequence[str]) -> float:
        """Cosine similarity of an image and a text (reference: `get_similarity_score_from_raw_data`).

        Args:
            image: one image, see `ImageEncoder.encode`.
            texts: a phrase, or several that mean the same: their unnormalized embeddings are averaged, then normalized.

        Returns:
            A float in [-1, 1].

        Raises:
            InputError: the image or a text cannot be used, or several images came.
            BundleError: the bundle lacks a part.
        """
        text_embed = average_prompts(self.text.encode(texts, normalize=False))
        image_embed = self.image.encode(_single(image))[0]
        return float(np.clip(image_embed @ text_embed, -1.0, 1.0))

    @overload
    def classify(
        self, images: str | os.PathLike[str] | Image, prompts: Prompts | str, rule: str = ...
    ) -> dict[str, float]: ...
    @overload
    def classify(
        self, images: list[Any] | tuple[Any, ...], prompts: Prompts | str, rule: str = ...
    ) -> list[dict[str, float]]: ...
    @overload
    def classify(
        self, images: ImageLike | Iterable[ImageLike], prompts: Prompts | str, rule: str = ...
    ) -> dict[str, float] | list[dict[str, float]]: ...
    def classify(
        self, images: ImageLike | Iterable[ImageLike], prompts: Prompts | str, rule: str = "biovil"
    ) -> dict[str, float] | list[dict[str, float]]:
        """How probable each label is for an image, by prompts that affirm and deny it: zero-shot classification.

        Prompts are embedded once: the next call with the same ones only embeds its images.

        Args:
            images: one or many, see `ImageEncoder.encode`.
            prompts: {label: (positive prompts, negative prompts)}, or the name of a built-in set: "pneumonia" or
                "chexpert", see `runtime.prompt_sets`.
            rule: how the prompts of a side become one embedding: "biovil" averages them unnormalized and normalizes
                (hi-ml-multimodal), "chexzero" normalizes each, averages, normalizes again. They are the same for one
                prompt a side.

        Returns:
            {label: probability} for one image, a list of them for many. A probability is the softmax of the cosines
            with the two sides, over 0.5 where the positive one is higher; see `ZeroShotClassifier.probabilities`, and
            its `scores` for the cosines themselves.

        Raises:
            InputError: images, prompts or rule cannot be used; labels and images are named.
            BundleError: the bundle lacks a part.
        """
        return classify(self.zero_shot_classifier(prompts, rule), self.image, images)

    def zero_shot_classifier(self, prompts: Prompts | str, rule: str = "biovil") -> ZeroShotClassifier:
        """The prompts of `classify`, embedded: for image embeddings that are there already, and for the raw scores.

        Args:
            prompts: as for `classify`.
            rule: as for `classify`.

        Returns:
            An object with the methods `probabilities` and `scores`; needs no image part.

        Raises:
            InputError: prompts or rule cannot be used.
            BundleError: the bundle lacks the text part.
        """
        return self._classifier(self.text, *resolve(prompts, rule))

    def similarity_map(self, image: ImageLike, text: str) -> NDArray[np.float32]:
        """Where an image resembles a text (reference: `get_similarity_map_from_raw_data`).

        The cosine of every patch with the text, smoothed with a Gaussian of σ = 1.5 patches and enlarged to the image
        by nearest neighbour.

        Args:
            image: one image, see `ImageEncoder.encode`.
            text: one phrase.

        Returns:
            float32 (H, W) of the image, in [-1, 1]; NaN outside the centre crop that the model sees.

        Raises:
            InputError: the image or the text cannot be used, or several came.
            BundleError: the bundle lacks a part.
        """
        return self.ground(image, text).similarity_map

    def ground(self, image: ImageLike, phrase: str) -> Grounding:
        """Map and score of a phrase in an image, from one run of the image network.

        Args:
            image: one image, see `ImageEncoder.encode`.
            phrase: one phrase.

        Returns:
            What `similarity_map` and `similarity` return, the square that the model sees, and the map patch by patch.

        Raises:
            InputError: the image or the phrase cannot be used, or several came.
            BundleError: the bundle lacks a part.
        """
        if not isinstance(phrase, str):
            raise InputError(f"A {type(phrase).__name__} came where one phrase (str) is expected.")
        return self.ground_phrases(image, [phrase])[0]

    def ground_phrases(self, image: ImageLike, phrases: Sequence[str]) -> list[Grounding]:
        """As `ground` for several phrases; the image network still runs once.

        Args:
            image: one image, see `ImageEncoder.encode`.
            phrases: any number, each on its own: they are not averaged.

        Returns:
            One for each phrase, in order. Each has a map of the image's size: 4 bytes a pixel.

        Raises:
            InputError: the image or a phrase cannot be used, several images or no phrases came.
            BundleError: the bundle lacks a part.
        """
        return ground_phrases(self.text, self.image, _single(image)[0], phrases)

    def __repr__(self) -> str:
        parts = ", ".join(map(_shown, self.choices.values()))
        return f"Engine(family={self.manifest.family!r}, provider={self.provider!r}, {parts})"


def load(
    bundle: str | os.PathLike[str],
    provider: str = "auto",
    precision: str | Mapping[str, str] = "auto",
    threads: int | None = None,
    *,
    min_fidelity: float = MIN_FIDELITY,
    parts: Iterable[str] | None = None,
    invert_monochrome1: bool = True,
    dicom_frame: int | None = None,
    voi_lut: bool = False,
    pixel_padding: str = "auto",
    fast_decode: bool = False,
    share: bool = False,
) -> Engine:
    """Open a bundle for inference. Every file that is used is compared with the manifest's sha256 first.

    Args:
        bundle: folder written by `python -m export`.
        provider: "cpu", "openvino", "cuda", "tensorrt", or "auto" for the fastest that works (`engine.provider` says
            which, `engine.reason` why): as `python -m runtime tune` found on this machine; else cuda, then the
            processor's engine that is faster by the bundle's records of this very processor; else the first of cuda,
            cpu and openvino. A named provider that cannot run raises.
        precision: what to compute in: a precision of the bundle; "bf16", which OpenVINO makes of fp32 and which is
            refused where it would be emulated slowly; or "auto" for the fastest, part by part, whose recorded fidelity
            on that provider reaches `min_fidelity`, else fp32 (`engine.precision` and `engine.fidelity` say which; a
            line at level INFO of the logger "runtime" says why). A mapping names one for each part:
            {"text": "int8-dynamic", "image": "int8"}; parts that it lacks are "auto".
        threads: threads for one inference; None takes the processors this process may run on. Streams and batch of
            bulk work are as tuned with as many threads, if they were.
        min_fidelity: smallest mean cosine to PyTorch fp32 on held-out data that precision="auto" accepts, in [0, 1].
        parts: load only these of "text" and "image"; None loads all the bundle has.
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
        share: other processes use the same processors: threads that wait do not spin.

    Returns:
        An engine with the methods `text.encode`, `image.encode`, `image.encode_patches`, `similarity`,
        `similarity_map`, `ground`, `ground_phrases` and `classify`.

    Raises:
        BundleError: no bundle there, files missing or changed, a newer schema, a part or precision that it lacks for
            that provider (those it has are listed).
        ProviderError: the provider cannot run here, or not in that precision; the message says why and what to do.
        InputError: threads below 1 or far beyond the machine, min_fidelity outside [0, 1], an unknown part, frame or
            pixel_padding.

    Example:
        >>> engine = runtime.load("bundles/biovil", provider="cpu")
        >>> engine.similarity("chest.png", ["Pleural effusion", "Fluid in the pleural space"])
    """
    threads = check_threads(threads)
    dicom = DicomOptions(invert_monochrome1, dicom_frame, voi_lut, pixel_padding)
    if not 0 <= min_fidelity <= 1:
        raise InputError(f"min_fidelity={min_fidelity}; a mean cosine from 0 to 1 is expected.")
    opened = open_bundle(bundle)
    wanted = opened.parts() if parts is None else tuple(parts)
    for part in wanted:
        if part not in ("text", "image"):
            raise InputError(f"There is no part '{part}'; there are: text, image.")
        opened.artifacts(part)  # raises for a part that the bundle lacks
    by_part = dict.fromkeys(wanted, precision) if isinstance(precision, str) else dict(precision)
    for part in by_part:
        if part not in wanted:
            raise InputError(f"precision names the part '{part}'; loaded are: {', '.join(wanted)}.")
    tuning = read_tuning(opened)
    plans, failures = decide(opened, wanted, provider, by_part, min_fidelity, threads, tuning)
    for plan in plans:
        try:
            sessions = {part: _open(opened, plan, part, share) for part in wanted}
        except ProviderError as error:
            failures[plan.provider.name] = error
            continue
        break
    else:
        raise _one_error(failures)
    reason = plan.reason
    if plan is not plans[0]:
        reason += f"; {', '.join(other.provider.name for other in plans[: plans.index(plan)])} could not open it"
    _LOG.info("%s", reason)
    for part, choice in plan.choices.items():
        _LOG.info("%s on %s: %s; %s", choice, plan.provider.name, choice.reason, _bulk(sessions[part], plan.row(part)))
    text, image = None, None
    if "text" in sessions:
        row = plan.row("text")
        text = open_text(
            opened,
            plan.choices["text"],
            plan.provider,
            sessions["text"],
            row.batch if row else None,
            masks=_options(plan, "text", share),
        )
    if "image" in sessions:
        from runtime.image import BATCH, ImageEncoder

        row = plan.row("image")
        image = ImageEncoder(
            opened.image_part(),
            sessions["image"],
            dicom,
            fast_decode=fast_decode,
            threads=threads,
            batch=row.batch if row else BATCH,
        )
    return Engine(opened, plan.provider.name, plan.choices, text, image, reason)


def _open(bundle: Bundle, plan: Plan, part: str, share: bool) -> Sessions:
    row = plan.row(part)
    streams = row.streams if row else default_streams(plan.provider, plan.threads)
    return open_sessions(bundle, plan.choices[part], plan.provider, _options(plan, part, share), streams)


def _options(plan: Plan, part: str, share: bool) -> SessionOptions:
    return SessionOptions(threads=plan.threads, precision=plan.choices[part].precision, share=share)


def _bulk(sessions: Sessions, row: Row | None) -> str:
    streams = f"streams={sessions.streams} for bulk work"
    return f"{streams}, batch={row.batch}, as tuned" if row else streams


def _one_error(failures: Mapping[str, CxrEngineError]) -> CxrEngineError:
    """What to raise when every provider tried has failed."""
    if len({str(error) for error in failures.values()}) == 1:
        return next(iter(failures.values()))
    reasons = "\n".join(f"  {name}: {error}" for name, error in failures.items())
    kind = BundleError if all(isinstance(error, BundleError) for error in failures.values()) else ProviderError
    return kind(f"No inference engine here can run this:\n{reasons}")


def _shown(choice: Choice) -> str:
    return str(choice).replace(" ", "=", 1)


def _single(image: ImageLike) -> list[ImageLike]:
    from runtime.images import as_image_list

    listed = as_image_list(image)
    if len(listed) != 1:
        raise InputError(f"{len(listed)} images came where one is expected.")
    return listed
