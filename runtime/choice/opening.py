"""From a choice to opened graphs and the encoders around them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from runtime.bundle import FILL_MASK, PACKED, WORDS, Artifact, Bundle
from runtime.bundle.manifest import SCHEMA_VERSION
from runtime.bundle.older import present_names
from runtime.bundle.parts import REFUSED
from runtime.bundle.verified import WatchedSession
from runtime.choice.precision import Choice
from runtime.engines import Provider, Session, SessionOptions, Sessions
from runtime.engines.session import Reduced
from runtime.errors import BundleError
from runtime.text import TextEncoder, Tokenizer
from runtime.text.fill_mask import MaskFiller
from runtime.text.tokenization import TOKENIZER_FILES
from runtime.text.words import WordEncoder

__all__ = ["default_streams", "open_face", "open_graph", "open_sessions", "open_text"]


def default_streams(provider: Provider, threads: int) -> int:
    """Calls that are computed side by side in bulk work where nothing was tuned."""
    return threads if provider.packs else 1


def open_graph(bundle: Bundle, choice: Choice, provider: Provider, options: SessionOptions) -> Session:
    """Open what was chosen, and verify its files.

    Raises:
        BundleError: a file was changed.
        ProviderError: the engine cannot open it.
    """
    return _open_verified(bundle, _graph(bundle, choice, provider), provider, options)


def open_sessions(
    bundle: Bundle, choice: Choice, provider: Provider, options: SessionOptions, streams: int
) -> Sessions:
    """Open what was chosen for single calls, later for bulk work, and verify its files each time.

    Args:
        bundle: the opened bundle.
        choice: what to open.
        provider: the engine.
        options: threads, precision and sharing.
        streams: of the session for bulk work.

    Raises:
        BundleError: a file was changed.
        ProviderError: the engine cannot open it.
    """
    apart = choice.part == "image" and provider.whole_batches
    return _sessions(bundle, _graph(bundle, choice, provider), provider, options, streams, apart)


def open_face(
    bundle: Bundle, choice: Choice, role: str, provider: Provider, options: SessionOptions, streams: int
) -> Sessions:
    """As `open_sessions`, of another image graph that goes with the chosen one.

    Args:
        role: `PAIR` or `PATCHES`.

    Raises:
        BundleError: there is none for that engine in that precision, or a file was changed.
        ProviderError: the engine cannot open it.
    """
    artifact = bundle.artifact("image", choice.artifact.precision, role, provider.name)
    return _sessions(bundle, artifact, provider, options, streams, provider.whole_batches)


def _sessions(
    bundle: Bundle, artifact: Artifact, provider: Provider, options: SessionOptions, streams: int, apart: bool = False
) -> Sessions:
    def open_session(count: int) -> Session:
        return options.wrap(
            _open_verified(bundle, artifact, provider, replace(options, streams=count, soon=count == 1))
        )

    # Threads that share their processors with other engines' go where the system has room.
    pinned = provider.on_callers and streams == options.threads and not options.share
    return Sessions(open_session, streams, apart=apart, pinned=pinned)


def _open_verified(bundle: Bundle, artifact: Artifact, provider: Provider, options: SessionOptions) -> Session:
    """A session of the very files that the manifest lists, which stays so or raises BundleError."""
    entries = [entry for name in artifact.files if (entry := bundle.manifest.files.get(name))]
    digest = hashlib.sha256("".join(entry.sha256 for entry in entries).encode()).hexdigest()

    def verified(open_session: Callable[[], Session]) -> Session:
        # The graph is verified before it is parsed. Its weights are raw bytes: they are hashed while the session opens,
        # and no session is handed out before the digests agree.
        session, mapped = bundle.files.open([artifact.file], artifact.external_data, open_session)
        return WatchedSession(present_names(session, artifact), mapped)

    options = replace(options, digest=digest, size=sum(entry.bytes for entry in entries), open_later=verified)
    return verified(lambda: provider.open(bundle.path(artifact.file), options))


def open_text(
    bundle: Bundle,
    choice: Choice,
    provider: Provider,
    sessions: Sessions,
    token_budget: int | None = None,
    *,
    masks: SessionOptions | None = None,
    refuse_long: bool = False,
    cache: int = 0,
    reduced: Reduced | None = None,
) -> TextEncoder:
    """The encoder of texts around a graph's sessions.

    Args:
        bundle: the opened bundle.
        choice: what the sessions compute.
        provider: the engine.
        sessions: of the graph that embeds.
        token_budget: tokens in one batch; None takes the engine's own.
        masks: what the graphs that fill masks and embed words are opened with when they are first needed; without
            them it does neither.
        refuse_long: see `runtime.load`.
        cache: see `TextEncoder`.
        reduced: how it is pickled.

    Raises:
        BundleError: a file of the tokenizer was changed.
    """
    folder = "text"
    part = bundle.text_part()
    packed = _graph(bundle, choice, provider).role == PACKED
    files = [f"{folder}/{name}" for name in TOKENIZER_FILES]
    rules = replace(part.tokenization, too_long=REFUSED) if refuse_long else part.tokenization
    tokenizer, _ = bundle.files.open(files, (), lambda: Tokenizer(bundle.path(folder), rules))
    budget = token_budget or provider.batch[choice.part]

    filler = None
    if masks is not None and tokenizer.mask_token_id is not None:

        def open_masks(options: SessionOptions = masks) -> Sessions:
            return _sessions(bundle, _fill_mask(bundle, choice, provider), provider, options, sessions.streams)

        filler = MaskFiller(tokenizer, open_masks, budget)
    words = None
    if masks is not None and bundle.artifacts("text", role=WORDS):

        def open_words(options: SessionOptions = masks) -> Sessions:
            artifact = bundle.artifact("text", choice.artifact.precision, WORDS, provider.name)
            return _sessions(bundle, artifact, provider, options, 1)

        words = WordEncoder(tokenizer, open_words, budget)
    return TextEncoder(
        part, sessions, tokenizer, packed, masks=filler, words=words, token_budget=budget, cache=cache, reduced=reduced
    )


def _fill_mask(bundle: Bundle, choice: Choice, provider: Provider) -> Artifact:
    """The graph that fills masks, with the encoder of the chosen artifact.

    Raises:
        BundleError: there is none for that engine in that precision, or none at all; the message says what to do.
    """
    there = bundle.artifacts("text", role=FILL_MASK)
    for artifact in there:
        if provider.name in artifact.providers and artifact.precision == choice.artifact.precision:
            return artifact
    if not there and bundle.manifest.schema_version == SCHEMA_VERSION:
        raise BundleError(
            f"{bundle.root} cannot fill masks: the checkpoint that it was made from has no head that fills masks."
        )
    if not there:
        raise BundleError(
            f"{bundle.root} cannot fill masks: it was exported before that was possible. Export it again: "
            f"python -m export {bundle.manifest.family} --checkpoint SOURCE --out DIR"
        )
    listed = ", ".join(f"{artifact.precision} ({', '.join(artifact.providers)})" for artifact in there)
    raise BundleError(
        f"{bundle.root} has no graph that fills masks for '{provider.name}' in {choice.artifact.precision}; it has: "
        f"{listed}. Load it with one of these: load(…, provider=…, precision=…)."
    )


def _graph(bundle: Bundle, choice: Choice, provider: Provider) -> Artifact:
    """The graph to open: the chosen artifact, or its packed twin where the engine packs and there is one."""
    if provider.packs:
        for packed in bundle.artifacts(choice.part, provider.name, PACKED):
            if packed.precision == choice.artifact.precision:
                return packed
    return choice.artifact
