"""Compare the token ids that graphs are fed with the reference's: they must be identical."""

from __future__ import annotations

from pathlib import Path

from export.families import TextAxes
from export.proof.upstream_tokens import upstream_tokenizers
from export.samples import SENTENCES
from runtime.bundle import ParityRecord
from runtime.bundle.parts import CUT
from runtime.text import Tokenizer

__all__ = ["token_parity"]

_IDENTICAL = {"differing": 0.0}
# What notes bring from other systems, and what a vocabulary has only in pieces.
_UNTIDY = (
    "the patient’s “small” effusion… ‘unchanged’ – 3′ × 4″",
    "Effusion &lt; 2 cm &amp; stable; SpO2 &amp;gt; 95&nbsp;% <b>now</b> &#x2191;",
    "Ã©panchement pleural, MeniÃ¨re, â€œquotedâ€\x9d, voilÃ  le poumon",
    "ＬＯＵＤ　ｆｕｌｌ　ｗｉｄｔｈ, ﬁbrosis and eﬀusion, ½ ² Å K",
    "Épanchement, Ménière, naïve façade, Cafe\u0301, Straße, ΠΝΕΥΜΟΝΙΑΣ, it'ſ, İstanbul",
    "胸部X線で肺炎、エックス線 폐렴 пневмония رئة",
    "chest 🫁 x-ray 👩🏽‍⚕️ ☢",
    "tab\tform\ffeed\vvertical\x00nul\x1b[31mred\x1b[0m\x7fdel\x1cfs\x85nel\u2028ls\u200bzwsp\ufeffbom",
    "CHEST PA/LAT: IT'S 12/03/2021; T7-T8, q6h., 10mg... can't, we've, I'll, he'd!?!",
    " \t\r\n",
)


def token_parity(tokenizer: Tokenizer, checkpoint: Path, axes: TextAxes) -> ParityRecord:
    """Compare the bundle's tokenizer with upstream's on the checkpoint's own files; see `upstream_tokenizers`.

    The texts are `SENTENCES`, untidy ones, one that is longer than the model reads, and some with the tokens that were
    added for fine-tuning.

    Args:
        tokenizer: the bundle's.
        checkpoint: folder with its files.
        axes: how texts are cleaned, cut and cased; the prompts are put before texts by the reference as text.

    Returns:
        Figure: differing, the number of sentences whose ids differ.
    """
    rules = axes.tokenization
    references = upstream_tokenizers(checkpoint, axes)
    added = sorted({token for each in references for token in each.added})
    sentences = [*SENTENCES, *_UNTIDY, *(f"No {token}, {token}s." for token in added)]
    sentences += [" ".join([SENTENCES[0]] * rules.max_length)] if rules.too_long == CUT else []
    prompt = tokenizer.prompt(None)
    encoded, faults = tokenizer.try_encode(sentences, prompt=prompt)
    refused = {fault.index for fault in faults}  # special tokens, which the runtime does not take in texts
    differing = {
        index
        for reference in references
        for index, ids in enumerate(reference.encode([prompt + text for text in sentences]))
        if index not in refused and encoded[index] != list(ids)
    }
    return ParityRecord(
        "none",
        " and ".join(each.name for each in references),
        f"token ids of {len(sentences)} sentences",
        {"differing": float(len(differing))},
        _IDENTICAL,
    )
