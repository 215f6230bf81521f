"""Open a bundle and put its parts together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle, open_bundle
from runtime.errors import BundleError, CxrEngineError, InputError, ProviderError
from runtime.image import ImageEncoder
from runtime.images import ImageLike, as_image_list
from runtime.joint import average_prompts, map_to_image, patch_similarity
from runtime.manifest import Artifact, Manifest
from runtime.providers import Provider, choose_provider, default_threads
from runtime.session import Session, SessionOptions
from runtime.text import TextEncoder
from runtime.tokenization import Tokenizer

__all__ = ["Engine", "load"]


class Engine:
    """A loaded bundle; made by `runtime.load`.

    Attributes:
        provider: the inference engine that runs it ("cpu", "openvino", "cuda" or "tensorrt").
        precision: precision of the artifacts loaded, by part: {"text": "fp32", …}.
        manifest: everything known about the bundle.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str,
        precision: dict[str, str],
        text: TextEncoder | None,
        image: ImageEncoder | None,
    ) -> None:
        self.provider = provider
        self.precision = precision
        self.manifest: Manifest = bundle.manifest
        self._bundle = bundle
        self._text = text
        self._image = image

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
        if not isinstance(text, str):
            raise InputError(f"A {type(text).__name__} came where one phrase (str) is expected.")
        text_embed = self.text.encode(text)[0]
        encoder = self.image
        loaded, faults = encoder.load(_single(image))
        if faults:
            raise InputError.from_faults("images", faults, 1)
        if int(encoder.crop * min(loaded[0].size) / encoder.resize) < 1:
            raise InputError(f"The image has {loaded[0].size[0]} × {loaded[0].size[1]} pixels: too few for a map.")
        patch_embeds = encoder.encode_pixels(loaded[0].pixels[None], "patch_embeds")[0]
        return map_to_image(patch_similarity(patch_embeds, text_embed), loaded[0].size, encoder.resize, encoder.crop)

    def __repr__(self) -> str:
        parts = ", ".join(f"{part}={precision}" for part, precision in self.precision.items())
        return f"Engine(family={self.manifest.family!r}, provider={self.provider!r}, {parts})"


def load(
    bundle: str | os.PathLike[str],
    provider: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    *,
    parts: Iterable[str] | None = None,
    invert_monochrome1: bool = True,
) -> Engine:
    """Open a bundle for inference. Every file that is used is compared with the manifest's sha256 first.

    Args:
        bundle: folder written by `python -m export`.
        provider: "cpu", "openvino", "cuda", "tensorrt", or "auto" for the first of cuda, cpu and openvino that works
            (`engine.provider` says which). A named provider that cannot run raises.
        precision: a precision of the bundle, or "auto".
        threads: threads for one inference; None takes the processors this process may run on.
        parts: load only these of "text" and "image"; None loads all the bundle has.
        invert_monochrome1: turn MONOCHROME1 DICOM, where 0 is white, the right way up, as the training data was. False
            gives the reference implementation's behaviour, which does not.

    Returns:
        An engine with the methods `text.encode`, `image.encode`, `image.encode_patches`, `similarity` and
        `similarity_map`.

    Raises:
        BundleError: no bundle there, files missing or changed, a newer schema, a part or precision that it lacks.
        ProviderError: the provider cannot run here; the message says why and how to install it.
        InputError: threads below 1, an unknown part.

    Example:
        >>> engine = runtime.load("bundles/biovil", provider="cpu")
        >>> engine.similarity("chest.png", ["Pleural effusion", "Fluid in the pleural space"])
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads={threads}; at least 1 is expected, or None for all processors.")
    opened = open_bundle(bundle)
    wanted = opened.parts() if parts is None else tuple(parts)
    for part in wanted:
        if part not in ("text", "image"):
            raise InputError(f"There is no part '{part}'; there are: text, image.")
    artifacts = {part: opened.artifact(part, precision) for part in wanted}
    candidates = choose_provider(provider)
    for position, candidate in enumerate(candidates):
        try:
            sessions = {part: _open_session(opened, artifacts[part], candidate, threads) for part in wanted}
        except ProviderError:
            if position + 1 == len(candidates):
                raise
        else:
            break
    text, image = None, None
    if "text" in sessions:
        text = _text_encoder(opened, sessions["text"])
    if "image" in sessions:
        image = ImageEncoder(opened.image_part(), sessions["image"], invert_monochrome1)
    precisions = {part: artifact.precision for part, artifact in artifacts.items()}
    return Engine(opened, candidate.name, precisions, text, image)


def _text_encoder(bundle: Bundle, session: Session) -> TextEncoder:
    folder = "text"
    bundle.verify([f"{folder}/tokenizer.json", f"{folder}/special_tokens_map.json"])
    part = bundle.text_part()
    return TextEncoder(part, session, Tokenizer(bundle.path(folder), part.max_length))


def _open_session(bundle: Bundle, artifact: Artifact, provider: Provider, threads: int | None) -> Session:
    options = SessionOptions(threads=threads or default_threads(), precision=artifact.precision)
    # The graph is verified before it is parsed. Its weights are raw bytes: they are hashed while the session opens, and
    # no session is handed out before the digests agree.
    bundle.verify([artifact.file])
    with ThreadPoolExecutor(1) as pool:
        digests = pool.submit(bundle.verify, artifact.external_data)
        try:
            session = provider.open(bundle.path(artifact.file), options)
        except CxrEngineError:
            digests.result()  # a changed file is the better explanation
            raise
        digests.result()
    return session


def _single(image: ImageLike) -> list[ImageLike]:
    listed = as_image_list(image)
    if len(listed) != 1:
        raise InputError(f"{len(listed)} images came where one is expected.")
    return listed
