"""A loaded bundle: its parts, and what they do together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle, FidelityRecord, Manifest
from runtime.bundle.parts import COSINES
from runtime.choice import Choice
from runtime.engines.session import Reduced
from runtime.errors import BundleError, InputError
from runtime.process.checks import one_of, texts_of
from runtime.text import TextEncoder

# A first text is embedded sooner without Pillow and without the tasks; each is imported when it is asked for.
if TYPE_CHECKING:
    from PIL.Image import Image

    from runtime.image.ahead import DecodedAhead
    from runtime.image.encoder import ImageEncoder
    from runtime.image.given_images import ImageLike
    from runtime.tasks.grounding import Grounding
    from runtime.tasks.prompts import Prompts
    from runtime.tasks.templates import GivenTemplates
    from runtime.tasks.zero_shot import ZeroShotClassifier

__all__ = ["Engine"]

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
        reduced: Reduced,
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
        self._reduced = reduced
        # Not a cached_property: before Python 3.12 it has a lock, which a forked child may find held.
        self._classifier: Callable[..., ZeroShotClassifier] | None = None

    def __reduce__(self) -> Reduced:
        return self._reduced

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

    def similarity(self, image: ImageLike, texts: str | Sequence[str], previous: ImageLike | None = None) -> float:
        """Cosine similarity of an image and a text (reference: `get_similarity_score_from_raw_data`).

        Args:
            image: one image, see `ImageEncoder.encode`.
            texts: a phrase, or several that mean the same: their unnormalized embeddings are averaged, then normalized.
            previous: of systems that compare images: its previous image, see `ImageEncoder.encode`.

        Returns:
            A float in [-1, 1].

        Raises:
            InputError: the image or a text cannot be used, or several images came.
            BundleError: the bundle lacks a part.
        """
        from runtime.tasks.joint import average_prompts

        with self._decoded_ahead(image, previous) as films:
            text_embed = average_prompts(self.text.encode(texts, normalize=False))
        film, before = films.images, films.previous
        image_embed = self.image.encode(_single(film), None if before is None else _single(before))[0]
        return float(np.clip(image_embed @ text_embed, -1.0, 1.0))

    @overload
    def classify(
        self,
        images: str | os.PathLike[str] | Image,
        prompts: Prompts | str,
        rule: str | None = ...,
        score: str | None = ...,
        templates: GivenTemplates | None = ...,
        previous: Any = ...,
    ) -> dict[str, float]: ...
    @overload
    def classify(
        self,
        images: list[Any] | tuple[Any, ...],
        prompts: Prompts | str,
        rule: str | None = ...,
        score: str | None = ...,
        templates: GivenTemplates | None = ...,
        previous: Any = ...,
    ) -> list[dict[str, float]]: ...
    @overload
    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        prompts: Prompts | str,
        rule: str | None = ...,
        score: str | None = ...,
        templates: GivenTemplates | None = ...,
        previous: Any = ...,
    ) -> dict[str, float] | list[dict[str, float]]: ...
    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        prompts: Prompts | str,
        rule: str | None = None,
        score: str | None = None,
        templates: GivenTemplates | None = None,
        previous: ImageLike | Iterable[ImageLike | None] | None = None,
    ) -> dict[str, float] | list[dict[str, float]]:
        """How probable each label is for an image, by prompts: zero-shot classification.

        Prompts are embedded once: the next call with the same ones only embeds its images.

        Args:
            images: one or many, see `ImageEncoder.encode`.
            prompts: {label: (positive prompts, negative prompts)}, or the name of a published set, such as "pneumonia"
                or "chexpert", see `runtime.tasks.prompt_sets`. For the scores "softmax" and "sigmoid": labels alone, or
                {label: prompts}.
            rule: how the prompts of a side become one embedding: "biovil" averages them unnormalized and normalizes
                (hi-ml-multimodal); "clip" normalizes each, averages, normalizes again (CLIP, open_clip, and CheXzero:
                "chexzero" is the same). They differ for several prompts a side. None takes what the bundle's system is
                evaluated with upstream, see `rule_of`.
            score: "pairs" compares the prompts that affirm a label with those that deny it; "softmax" compares labels
                with each other; "sigmoid" takes each on its own. None takes the bundle's ("pairs" for BioViL); scale
                and bias are always the bundle's.
            templates: what labels alone become prompts by: the name of a published set ("imagenet", "biomedclip",
                "chexzero", …, see `runtime.tasks.templates`), or one's own, "{}" standing for the label. None takes
                the bundle's. Sets that affirm and deny serve the score "pairs" as well.
            previous: of systems that compare images: the previous image of each, see `ImageEncoder.encode`.

        Returns:
            {label: probability} for one image, a list of them for many. Of "pairs" a probability is the softmax of the
            cosines with the two sides, over 0.5 where the positive one is higher; see
            `ZeroShotClassifier.probabilities`, and its `scores` for the cosines themselves.

        Raises:
            InputError: images, prompts, rule, score or templates cannot be used; labels and images are named.
            BundleError: the bundle lacks a part.
        """
        from runtime.tasks.zero_shot import classify

        with self._decoded_ahead(images, previous) as films:
            classifier = self.zero_shot_classifier(prompts, rule, score, templates)
        return classify(classifier, self.image, films.images, films.previous)

    def zero_shot_classifier(
        self,
        prompts: Prompts | str,
        rule: str | None = None,
        score: str | None = None,
        templates: GivenTemplates | None = None,
    ) -> ZeroShotClassifier:
        """The prompts of `classify`, embedded: for image embeddings that are there already, and for the raw scores.

        Args:
            prompts: as for `classify`, and so are rule, score and templates.

        Returns:
            An object with the methods `probabilities` and `scores`; needs no image part.

        Raises:
            InputError: prompts, rule, score or templates cannot be used.
            BundleError: the bundle lacks the text part.
        """
        from runtime.tasks.given_prompts import resolve
        from runtime.tasks.zero_shot import build_classifier, refuse_wordless, rule_of

        if self._classifier is None:
            self._classifier = lru_cache(_CLASSIFIERS)(build_classifier)
        joint = self.manifest.joint or COSINES
        rule = rule_of(joint.score) if rule is None else rule
        resolved = resolve(prompts, rule, joint.score if score is None else score, joint.templates, templates)
        refuse_wordless(resolved[0], resolved[2], self.text.tokenizer)
        return self._classifier(self.text, *resolved, joint.logit_scale, joint.logit_bias)

    def progression(
        self,
        current: ImageLike | Iterable[ImageLike],
        previous: ImageLike | Iterable[ImageLike],
        finding: str | Mapping[str, Sequence[str]],
        rule: str | None = None,
    ) -> dict[str, float] | list[dict[str, float]]:
        """How a finding changes from a previous image to a current one, by prompts; see `runtime.tasks.progression`.

        Args:
            current: one image or many, see `ImageEncoder.encode`.
            previous: the previous image of each.
            finding: such as "pleural effusion", of which is said that it "is improving", "is stable" and "is worsening"
                (the classes of MS-CXR-T); or one's own {class: prompts}.
            rule: as for `classify`.

        Returns:
            {class: probability} for one image, a list of them for many: the softmax over the classes of the cosines of
            their prompts with the embedding of both images, times the bundle's scale. To compare, not calibrated.

        Raises:
            InputError: images or prompts cannot be used, or previous images are missing; each is named.
            BundleError: the bundle lacks a part, or embeds single images.
        """
        from runtime.tasks.progression import change_prompts, check_images, progression

        check_images(self.manifest.image.images if self.manifest.image else None)
        with self._decoded_ahead(current, previous) as films:
            classifier = self.zero_shot_classifier(change_prompts(finding), rule, "softmax")
        return progression(classifier, self.image, films.images, films.previous)

    def similarity_map(self, image: ImageLike, text: str, previous: ImageLike | None = None) -> NDArray[np.float32]:
        """Where an image resembles a text (reference: `get_similarity_map_from_raw_data`).

        The cosine of every patch with the text, smoothed with a Gaussian of σ = 1.5 patches and enlarged to the image
        by nearest neighbour. Of a ViT the patches are its patch tokens, projected as the class token is: ViTs were not
        trained to align them with texts. Of GLoRIA it is the attention of the text's words, their mean, not smoothed:
        from 0, adding up to 1 over the patches (`get_attn_maps`).

        Args:
            image: one image, see `ImageEncoder.encode`.
            text: one phrase.
            previous: as for `similarity`.

        Returns:
            float32 (H, W) of the image, in [-1, 1]; NaN outside the centre crop that the model sees.

        Raises:
            InputError: the image or the text cannot be used, or several came.
            BundleError: the bundle lacks a part, or its image part patches.
        """
        return self.ground(image, text, previous).similarity_map

    def ground(self, image: ImageLike, phrase: str, previous: ImageLike | None = None) -> Grounding:
        """Map and score of a phrase in an image, from one run of the image network.

        Args:
            image: one image, see `ImageEncoder.encode`.
            phrase: one phrase.
            previous: as for `similarity`.

        Returns:
            What `similarity_map` and `similarity` return, the square that the model sees, and the map patch by patch.

        Raises:
            InputError: the image or the phrase cannot be used, or several came.
            BundleError: the bundle lacks a part, or its image part patches.
        """
        if not isinstance(phrase, str):
            raise InputError(f"A {type(phrase).__name__} came where one phrase (str) is expected.")
        return self.ground_phrases(image, [phrase], previous)[0]

    def ground_phrases(
        self, image: ImageLike, phrases: Sequence[str], previous: ImageLike | None = None
    ) -> list[Grounding]:
        """As `ground` for several phrases; the image network still runs once.

        Args:
            image: one image, see `ImageEncoder.encode`.
            phrases: any number, each on its own: they are not averaged.
            previous: as for `similarity`.

        Returns:
            One for each phrase, in order. Each has a map of the image's size: 4 bytes a pixel.

        Raises:
            InputError: the image or a phrase cannot be used, several images or no phrases came.
            BundleError: the bundle lacks a part, or its image part patches.
        """
        from runtime.tasks.joint import ground_phrases

        before = None if previous is None else _single(previous)[0]
        attention = self.manifest.joint.attention if self.manifest.joint else None
        return ground_phrases(self.text, self.image, _single(image)[0], phrases, before, attention)

    def word_similarities(
        self, image: ImageLike, texts: str | Sequence[str], kind: str = "both"
    ) -> NDArray[np.float32]:
        """How well an image agrees with texts whose words attend to its regions (GLoRIA: `get_similarities`).

        Args:
            image: one image, see `ImageEncoder.encode`.
            texts: one or many, each on its own.
            kind: "global", the cosine of the image and the whole text; "local", five times the cosine of the word that
                agrees best with what it looks at; or "both", their mean, by which GLoRIA classifies.

        Returns:
            float32 (N,), one for each text.

        Raises:
            InputError: the image, a text or the kind cannot be used, or several images came.
            BundleError: the bundle lacks a part, or words attend to nothing in its system.
        """
        from runtime.tasks.joint import word_similarities

        kind = one_of("kind", kind, ("both", "local", "global"))
        attention = self.manifest.joint.attention if self.manifest.joint else None
        return word_similarities(self.text, self.image, _single(image)[0], texts_of(texts), attention, kind)

    def _decoded_ahead(self, images: Any, previous: Any) -> DecodedAhead:
        """Images that are decoded as long as prompts are embedded; that there is no image part is said after that."""
        from runtime.image.ahead import DecodedAhead

        return (
            DecodedAhead(None, images, previous) if self._image is None else self._image.decoded_ahead(images, previous)
        )

    def __repr__(self) -> str:
        parts = ", ".join(map(_shown, self.choices.values()))
        return f"Engine(family={self.manifest.family!r}, provider={self.provider!r}, {parts})"


def _shown(choice: Choice) -> str:
    return str(choice).replace(" ", "=", 1)


def _single(image: ImageLike) -> list[ImageLike]:
    from runtime.image.given_images import as_image_list

    listed = as_image_list(image)
    if len(listed) != 1:
        raise InputError(f"{len(listed)} images came where one is expected.")
    return listed
