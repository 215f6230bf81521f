"""The work that `runtime.choice.tune` measures: texts as long as reports, pixels, and encoders in any setting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.choice.opening import open_graph, open_sessions, open_text
from runtime.choice.precision import Choice
from runtime.engines import Provider, Session, SessionOptions, Sessions
from runtime.image.encoder import ImageEncoder
from runtime.text import Tokenizer

__all__ = ["Setting", "Workbench", "random_pixels", "random_texts"]

_SEED = 20221023
# Lengths in tokens are log-normal, as those of reports are: mean 50, 95th percentile 100.
_MEAN_TOKENS, _SPREAD = 50, 0.5
_FEWEST_TOKENS = 4
QUERY_TOKENS = 16
# A measurement takes about so long with a fast setting, and at most this many times the least work.
_SECONDS, _MOST_TIMES = 0.7, 64
# Calls of which the latency is the median, and the seconds after which fewer are enough.
_QUERIES, _QUERY_SECONDS = 7, 1.0
# A first run, in which engines prepare shapes, is taken for the measurement itself where it is so much slower.
_HOPELESS = 2.0


@dataclass(frozen=True)
class Setting:
    """What is measured: an engine, a precision, threads, streams and the size of a batch, for one part."""

    part: str
    provider: str
    precision: str
    threads: int
    streams: int
    batch: int

    @property
    def alone(self) -> tuple[str, str, str, int]:
        """What the latency of a single item depends on."""
        return self.part, self.provider, self.precision, self.threads


def random_texts(tokens: int, tokenizer: Tokenizer) -> list[list[int]]:
    """Texts of random words, always the same: one of 16 tokens where no more are asked for, else as long as reports.

    Args:
        tokens: number of tokens in all, about.
        tokenizer: whose token ids they are.
    """
    rng = np.random.default_rng(_SEED)
    lengths = np.array([float(tokens)])
    if tokens > QUERY_TOKENS:
        count = max(1, round(tokens / _MEAN_TOKENS))
        lengths = rng.lognormal(np.log(_MEAN_TOKENS) - _SPREAD**2 / 2, _SPREAD, count)
    first, last = tokenizer.encode([""])[0]
    return [
        [first, *rng.integers(0, tokenizer.vocabulary_size, int(length) - 2).tolist(), last]
        for length in np.clip(lengths, _FEWEST_TOKENS, tokenizer.max_length)
    ]


def random_pixels(count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 (count, *shape) of noise, always the same; see `Preprocessing.shape`."""
    return np.random.default_rng(_SEED).integers(0, 256, (count, *shape), dtype=np.uint8)


class Workbench:
    """Opens settings and measures them; graphs stay open until `keep` closes them."""

    def __init__(
        self,
        bundle: Bundle,
        choices: Mapping[tuple[str, str, str], Choice],
        providers: Mapping[str, Provider],
        least: Mapping[str, int],
    ) -> None:
        """Prepare to measure.

        Args:
            bundle: the opened bundle.
            choices: artifact for part, provider and precision.
            providers: by name.
            least: of each part, the tokens or images that occupy every stream of every setting.
        """
        self._bundle = bundle
        self._choices = choices
        self._providers = providers
        self._least = dict(least)
        self._sessions: dict[tuple[tuple[str, str, str, int], int], Session] = {}
        self._runs: dict[Setting, Callable[[int], None]] = {}
        self._work: dict[str, int] = {}
        self._best: dict[str, float] = {}
        self._texts: dict[int, list[list[int]]] = {}
        self._pixels: dict[int, NDArray[np.uint8]] = {}

    def items(self, part: str) -> int:
        """Texts or images of one measurement; known once a setting was measured."""
        return len(self._texts[self._work[part]]) if part == "text" else self._work[part]

    def seconds(self, setting: Setting) -> float:
        """Time of the bulk work of a part, the same in every setting.

        Raises:
            BundleError, ProviderError: it cannot be opened.
        """
        run = self._runs.get(setting)
        if run is None:
            run = self._runs[setting] = self._opened(setting)
            first = _timed(lambda: run(self._work.get(setting.part, self._least[setting.part])))
            if first > _HOPELESS * self._best.get(setting.part, first):
                return first
        if setting.part not in self._work:
            self._work[setting.part] = self._least[setting.part]
            took = _timed(lambda: run(self._least[setting.part]))
            times = min(max(1, round(_SECONDS / max(took, 1e-6))), _MOST_TIMES)
            self._work[setting.part] *= times
            if times == 1:
                self._best[setting.part] = took
                return took
        work = self._work[setting.part]
        took = _timed(lambda: run(work))
        self._best[setting.part] = min(took, self._best.get(setting.part, took))
        return took

    def milliseconds(self, setting: Setting) -> float:
        """Time of one text of 16 tokens, or of one image, alone.

        Raises:
            BundleError, ProviderError: it cannot be opened.
        """
        # With streams a single call would compute on its share of the threads.
        run = self._opened(replace(setting, streams=1))
        count = QUERY_TOKENS if setting.part == "text" else 1
        run(count)
        taken: list[float] = []
        while len(taken) < _QUERIES and (not taken or sum(taken) < _QUERY_SECONDS):
            taken.append(_timed(lambda: run(count)))
        return 1000 * median(taken)

    def keep(self, settings: Iterable[Setting]) -> None:
        """Close all graphs but those of some settings."""
        wanted = set(settings)
        alone = {setting.alone for setting in wanted}
        streams = {(setting.alone, setting.streams) for setting in wanted}
        self._runs = {setting: run for setting, run in self._runs.items() if setting in wanted}
        self._sessions = {
            key: session
            for key, session in self._sessions.items()
            if key in streams or (key[0] in alone and key[1] == 1)
        }

    def _opened(self, setting: Setting) -> Callable[[int], None]:
        """A function that computes so many tokens, in texts, or images."""
        choice = self._choices[setting.part, setting.provider, setting.precision]
        provider = self._providers[setting.provider]
        apart = setting.part == "image" and provider.whole_batches
        sessions = Sessions(lambda streams: self._session(setting, streams), setting.streams, apart=apart)
        if setting.part == "text":
            text = open_text(self._bundle, choice, provider, sessions, setting.batch)
            return lambda tokens: _discard(text.encode_tokens(self._some_texts(tokens, text.tokenizer)))
        image = ImageEncoder(self._bundle.image_part(), sessions, threads=setting.threads, batch=setting.batch)
        return lambda count: _discard(image.encode_pixels_in_bulk(self._some_pixels(count, image.preprocessing.shape)))

    def _session(self, setting: Setting, streams: int) -> Session:
        key = (setting.alone, streams)
        if key not in self._sessions:
            choice = self._choices[setting.part, setting.provider, setting.precision]
            provider = self._providers[setting.provider]
            options = SessionOptions(threads=setting.threads, precision=setting.precision)
            if streams == 1:  # always opened first: the files are verified then
                self._sessions[key] = open_sessions(self._bundle, choice, provider, options, 1).single
            else:
                self._sessions[key] = open_graph(self._bundle, choice, provider, replace(options, streams=streams))
        return self._sessions[key]

    def _some_texts(self, tokens: int, tokenizer: Tokenizer) -> list[list[int]]:
        if tokens not in self._texts:
            self._texts[tokens] = random_texts(tokens, tokenizer)
        return self._texts[tokens]

    def _some_pixels(self, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        if count not in self._pixels:
            self._pixels[count] = random_pixels(count, shape)
        return self._pixels[count]


def _discard(embeddings: NDArray[np.float32]) -> None:
    pass


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
