"""Images → embeddings."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.parts import ImagePart
from runtime.engines import Sessions
from runtime.engines.session import Reduced, reduced_or_raise
from runtime.errors import BundleError, Fault, InputError
from runtime.image.ahead import DecodedAhead
from runtime.image.batches import Batch, Way, repeated, shifted, split
from runtime.image.dicom_options import DicomOptions
from runtime.image.given_images import Decoded, ImageLike, as_image_list, only_once, taken_images
from runtime.image.graphs import ImageGraphs
from runtime.image.images import Pixels, decode_image, load_pixels
from runtime.image.pairs import Pair, load_pairs, look_at_pairs, with_previous
from runtime.image.resizing import seen_square
from runtime.process.checks import callback, one_of
from runtime.process.forks import check_generation, generation
from runtime.process.notices import Notices
from runtime.process.workers import ordered_map

__all__ = ["ImageEncoder"]

# From so many images on a second session, with streams, is worth opening.
_BULK_IMAGES = 16


class ImageEncoder:
    """The image half of an engine.

    Many images are decoded and computed by one worker for each stream of the session, which decodes a few images on its
    share of the threads and then computes them on it, so that no more than `threads` are ever busy, and none waits for
    another kind of work. A few batches are held at a time, the originals only while they are decoded.

    Attributes:
        embedding_size: length of an embedding (128 for BioViL).
        grid: patches per side (15 for BioViL); None where it embeds none.
        images: pictures that an embedding may be made of: 1, or 2, a current and a previous one.
        preprocessing: the rules from a picture to the graph's pixels.
        resize: side after resizing that `preprocessing` names, in pixels (512 for BioViL: the shorter one).
        crop: side of the centre crop that the graph reads, in pixels (480 for BioViL).
        dicom: how DICOM files are read.
        batch: images that are computed together.
        notices: what was unusual in the files read so far, counted.
    """

    def __init__(
        self,
        part: ImagePart,
        sessions: Sessions,
        dicom: DicomOptions | None = None,
        *,
        fast_decode: bool = False,
        threads: int = 1,
        batch: int,
        open_pairs: Callable[[], Sessions] | None = None,
        open_patches: Callable[[], Sessions] | None = None,
        reduced: Reduced | None = None,
    ) -> None:
        """Wrap the opened graph.

        Args:
            part: what the bundle says of its images.
            sessions: of the graph.
            dicom: how DICOM files are read; None as by default.
            fast_decode: see `runtime.load`.
            threads: threads that decode or compute at a time.
            batch: images computed together, at least 1.
            open_pairs: opens the graph of pairs when there is one to compute; None where the system has none.
            open_patches: opens the graph that embeds patches when they are asked for; None where `sessions` give them.
            reduced: how it is pickled.
        """
        self.embedding_size = part.embedding_size
        self.grid = part.grid
        self.images = part.images
        self.preprocessing = part.preprocessing
        self.resize = part.preprocessing.size
        self.crop = part.preprocessing.crop
        self._sessions = sessions
        self._graphs = ImageGraphs(sessions, batch, part.preprocessing.shape, open_pairs, open_patches)
        self.dicom = dicom or DicomOptions()
        self.notices = Notices()
        self._fast_decode = fast_decode
        self._threads = threads
        self.batch = batch
        self._reduced = reduced

    def __reduce__(self) -> Reduced:
        return reduced_or_raise(self, self._reduced)

    def encode(
        self,
        images: ImageLike | Iterable[ImageLike],
        previous: ImageLike | Iterable[ImageLike | None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed one image or many in the space shared with texts.

        Each row is the spatial mean of the projected patches, normalized after the mean (reference:
        `ImageInferenceEngine.get_projected_global_embedding`; with a previous image `MultiImageModel`, of which
        upstream's engine makes no use).

        Args:
            images: a path (JPEG, PNG, DICOM, NIfTI), the bytes of such a file or the file opened in mode "rb", a Pillow
                image (of several frames the current one), an array (H, W) or (H, W, channels), or any number of those
                in any order: a list, an iterator, a column of a table, an array (N, H, W), (N, 1, H, W) or (N, H, W,
                channels). An array (2, H, W) to (4, H, W) is refused: it could be one image with its channels first.
                Arrays are not written to, files are read from their beginning and left where they stood, lazily opened
                Pillow images are loaded. The same file or Pillow image may come several times, and in several threads.
            previous: of systems that compare images (BioViL-T): the previous image of each, in any of these forms, and
                None for those that have none; of a single image its previous one.

        Returns:
            float32 (N, D), row i for image i, unit L2 norm; D is `embedding_size`, 128 for BioViL.

        Raises:
            InputError: no images, something else (a dictionary, a table, a set), or images that are unreadable,
                constant or of a wrong shape; each is named. After
                the first, files that come later are only looked at: those that are missing or no images are named too.
                Also previous images for a system of single ones, and more or fewer of them than images.
            BundleError: previous images, and no graph for them in this precision on this engine.
            MissingExtraError: a file's format needs an optional package.
        """
        return self._encode(images, previous, "image_embeds", (self.embedding_size,))

    def encode_patches(
        self,
        images: ImageLike | Iterable[ImageLike],
        previous: ImageLike | Iterable[ImageLike | None] | None = None,
    ) -> NDArray[np.float32]:
        """Embed every patch of one image or many (reference: `get_projected_patch_embeddings`).

        A ViT has no patch embeddings of its own: its patch tokens take the way of the class token, final normalization
        and projection, for which they were not trained.

        Args:
            images: as for `encode`; previous alike. Patches are those of the current images.

        Returns:
            float32 (N, rows, columns, D): image, row from the top, column from the left, unit L2 norm along the last
            axis; both are `grid`, 15 for BioViL.

        Raises:
            InputError: as for `encode`.
            BundleError: the encoder embeds no patches.
            MissingExtraError: as for `encode`.
        """
        if self.grid is None:
            raise BundleError("This image encoder embeds no patches; a system with patches can, such as biovil.")
        return self._encode(images, previous, "patch_embeds", (self.grid, self.grid, self.embedding_size))

    def encode_iter(
        self,
        images: ImageLike | Iterable[ImageLike],
        previous: ImageLike | Iterable[ImageLike | None] | None = None,
        *,
        on_fault: Callable[[Fault], None] | None = None,
    ) -> Iterator[NDArray[np.float32] | None]:
        """Embed any number of images, in order and in bounded memory.

        Args:
            images: as for `encode`, taken as embeddings are consumed, a few batches ahead; previous alike.
            on_fault: called with each image that cannot be used (`Fault.index` counts from the first image); its
                embedding is None. Without it such an image raises InputError.

        Yields:
            float32 (D,) for each image, in the order given.

        Raises:
            InputError: as for `encode`, but an empty iterable yields nothing.
            MissingExtraError: as for `encode`.
        """
        self._graphs.check_previous(previous)
        found, _ = taken_images(images)
        pairs = with_previous(found, previous)
        return self._encode_iter(pairs, previous is not None, callback("on_fault", on_fault))

    def _encode_iter(
        self, remaining: Iterator[Pair], paired: bool, on_fault: Callable[[Fault], None] | None
    ) -> Iterator[NDArray[np.float32] | None]:
        first = list(islice(remaining, _BULK_IMAGES))
        way = self._way(len(first), paired, "image_embeds")
        with closing(self._batches(chain(first, remaining), "image_embeds", way, on_fault is not None)) as batches:
            for batch in batches:
                for fault in batch.faults:
                    if on_fault is None:
                        raise InputError.from_faults("images", batch.faults, batch.start + batch.count)
                    on_fault(fault)
                bad = {fault.index for fault in batch.faults}
                rows = iter(() if batch.embeddings is None else batch.embeddings)
                for index in range(batch.start, batch.start + batch.count):
                    yield None if index in bad else next(rows)

    def load(self, images: ImageLike | Iterable[ImageLike]) -> tuple[list[Pixels], list[Fault]]:
        """Decode, resize and crop images by the bundle's rules without embedding them.

        Args:
            images: as for `encode`.

        Returns:
            The usable images (uint8 of `preprocessing.shape`, (480, 480) for BioViL, and the original size) in order,
            and a fault for each of the others.

        Raises:
            InputError: no images, or something else.
            MissingExtraError: as for `encode`.
        """
        different, places = only_once(as_image_list(images))
        loaded, faults = self._load(different, self._threads)
        usable = iter(loaded)
        bad = {fault.index for fault in faults}
        found = [None if index in bad else next(usable) for index in range(len(different))]
        return [pixels for place in places if (pixels := found[place]) is not None], repeated(faults, places)

    def decoded_ahead(
        self, images: ImageLike | Iterable[ImageLike], previous: ImageLike | Iterable[ImageLike | None] | None = None
    ) -> DecodedAhead:
        """Decode images while something else is computed, as texts are; with one thread they wait for their turn.

        Args:
            images: as for `encode`; previous alike.

        Returns:
            For a `with` block; its `images` and `previous` are then given to `encode` or `load`.
        """

        def decode(image: ImageLike) -> Decoded:
            try:
                return Decoded(image, *decode_image(image, rule, dicom, fast_decode=fast))
            except Exception as error:  # raised where the image is used
                return Decoded(image, error)

        rule, fast, dicom = self.preprocessing, self._fast_decode, replace(self.dicom, threads=self._threads)
        return DecodedAhead(decode if self._threads > 1 else None, images, previous)

    def seen_square(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the square that the graph reads lies in an image; see `runtime.image.resizing.seen_square`.

        Args:
            size: width and height of the image in pixels.

        Returns:
            Left, top, width and height in its pixels.
        """
        return seen_square(self.preprocessing, size)

    def encode_pixels(
        self, pixels: NDArray[np.uint8], output: str = "image_embeds", previous: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Embed prepared pixels.

        Args:
            pixels: uint8 (N, crop, crop), or (N, 3, crop, crop) for colours, as `load` gives them.
            output: "image_embeds" or "patch_embeds".
            previous: of the previous images, alike.

        Returns:
            As `encode` or `encode_patches`.

        Raises:
            InputError: a wrong dtype or shape; previous images as for `encode`.
        """
        outputs = [one_of("output", output, ("image_embeds", "patch_embeds"))]
        return self._graphs.run_prepared(pixels, previous, outputs)[0]

    def encode_pixels_and_patches(
        self, pixels: NDArray[np.uint8], previous: NDArray[np.uint8] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What `encode` and `encode_patches` give for prepared pixels, from one run; else as `encode_pixels`."""
        outputs = ["image_embeds", "patch_embeds"]
        image_embeds, patch_embeds = self._graphs.run_prepared(pixels, previous, outputs)
        return image_embeds, patch_embeds

    def encode_pixels_and_regions(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `encode_pixels_and_patches`, with patches as they were before they were normalized.

        Raises:
            InputError: as for `encode_pixels`.
            BundleError: the graph gives patches of unit norm alone, as all do but GLoRIA's.
        """
        outputs = ["image_embeds", "patch_embeds", "patch_norms"]
        image_embeds, patch_embeds, norms = self._graphs.run_prepared(pixels, None, outputs)
        return image_embeds, patch_embeds * norms[..., None]

    def encode_pixels_in_bulk(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed prepared pixels in batches side by side, however few they are: what `runtime.choice.tune` measures.

        Args:
            pixels: as for `encode_pixels`.

        Returns:
            float32 (N, D), unit L2 norm.
        """
        return self._graphs.run_in_bulk(pixels)

    def _encode(
        self,
        images: ImageLike | Iterable[ImageLike],
        previous: ImageLike | Iterable[ImageLike | None] | None,
        output: str,
        shape: tuple[int, ...],
    ) -> NDArray[np.float32]:
        self._graphs.check_previous(previous)
        listed: list[ImageLike] = as_image_list(images)
        # Pairs are decoded as they come: which two they are, not which file, makes an embedding.
        different, places = only_once(listed) if previous is None else (listed, list(range(len(listed))))
        pairs = list(with_previous(different, previous))
        before = sum(other is not None for _, other in pairs)
        embeddings = np.empty((len(pairs), *shape), dtype=np.float32)
        faults: list[Fault] = []
        way = self._way(len(pairs), before > 0, output)
        with closing(self._batches(pairs, output, way, skip_bad=False)) as batches:
            for batch in batches:
                faults += batch.faults
                if batch.embeddings is not None:
                    embeddings[batch.start : batch.start + batch.count] = batch.embeddings
        if faults:
            raise InputError.from_faults("images", repeated(faults, places), len(places) + before)
        return embeddings if len(pairs) == len(places) else embeddings[places]

    def _way(self, count: int, paired: bool, output: str) -> Way:
        """How so many images, or more, are computed."""
        bulk = count >= _BULK_IMAGES or (self._sessions.apart and count > 1)
        streams = self._sessions.streams if bulk else 1
        decoders = max(1, self._threads // streams)
        self._graphs.ready(bulk, paired, [output])
        # Enough for one worker that each of its threads has one to decode.
        return Way(bulk, streams, decoders, self.batch * math.ceil(decoders / self.batch))

    def _batches(self, pairs: Iterable[Pair], output: str, way: Way, skip_bad: bool) -> Generator[Batch, None, None]:
        """Decode and compute images, batch by batch, in order.

        Args:
            pairs: taken a few batches ahead.
            output: of the graph.
            way: see `_way`.
            skip_bad: compute the others all the same. Without it a batch with a bad image has no embeddings, and those
                after it that were not yet begun are neither computed nor decoded: their files are only looked at.
        """
        first_bad = math.inf
        lock, begun = threading.Lock(), generation()

        def work(batch: tuple[int, list[Pair]]) -> Batch:
            nonlocal first_bad
            check_generation(begun, "The iteration")
            start, items = batch
            if start > first_bad:
                return Batch(start, len(items), None, shifted(look_at_pairs(items), start))
            loaded, previous, faults = load_pairs(lambda images: self._load(images, way.decoders), items)
            if faults and not skip_bad:
                with lock:
                    first_bad = min(first_bad, start)
            if not loaded or start >= first_bad:
                return Batch(start, len(items), None, shifted(faults, start))
            (found,) = self._graphs.run(np.stack(loaded), previous, [output], way.bulk)
            return Batch(start, len(items), found, shifted(faults, start))

        yield from ordered_map(work, split(pairs, way.size), way.streams if way.streams > 1 else 0)

    def _load(self, images: list[ImageLike], threads: int) -> tuple[list[Pixels], list[Fault]]:
        rule, fast, say = self.preprocessing, self._fast_decode, self.notices.add
        return load_pixels(images, rule, self.dicom, fast_decode=fast, threads=threads, on_notice=say)
