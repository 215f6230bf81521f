"""What is done to a text before it is tokenized, by the names of `Tokenization.cleaning`.

Sources: hi-ml-multimodal, `TextInput.tokenize_input_prompts`; open_clip, `basic_clean` and `whitespace_clean`; GLoRIA,
`gloria_model.py` (`process_text`).
"""

from __future__ import annotations

import html
import importlib.util
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from runtime.bundle.parts import FTFY, NO_CLEANING, SENTENCES, STRIP_PUNCTUATION
from runtime.errors import MissingExtraError

__all__ = ["CLEANERS", "check_cleaning", "mend", "words_of_sentences"]

_STRIPPED = "!?."
# Printable ASCII less "&", and the white space that ftfy leaves (it removes other control characters): it would change
# nothing. A sentence takes 1 µs instead of 25. tests/runtime/text/test_cleaning.py holds that both ways are equal.
_PLAIN = re.compile(r"[\t\n\f\r -%'-~]*")


def check_cleaning(name: str) -> None:
    """Raise MissingExtraError where a way of cleaning needs a package that is not installed."""
    if name == FTFY and importlib.util.find_spec("ftfy") is None:
        raise MissingExtraError("Reading texts as open_clip does", "ftfy", "clip")


def mend(text: str) -> str:
    """A text as open_clip mends it: `whitespace_clean(basic_clean(text))`.

    Mojibake, curly quotes, ligatures, full-width letters and control characters are mended by ftfy, then entities
    are replaced ("&lt;", also those written as "&amp;lt;"), and white space becomes single spaces, none at the ends.
    """
    if not _PLAIN.fullmatch(text):
        import ftfy  # 60 ms and 8 MB, which plain texts do without

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


# "1. No effusion. 2. Mild edema" → sentences; what stands between them goes.
_ENDS = re.compile(r"[0-9]+\.|\.")
_WORDS = re.compile(r"\w+")


def words_of_sentences(text: str) -> str:
    """The words of a report as GLoRIA reads them: in lower case, without punctuation and what is not ASCII.

    Of a sentence of a single word nothing is left, a prompt such as "Pneumonia" included; of "1.5 cm" 5 cm are left.
    """
    sentences = []
    for sentence in _ENDS.split(text.replace("\n", " ")):
        words = _WORDS.findall(sentence.replace("\ufffd\ufffd", " ").lower())
        if len(words) > 1:
            sentences.append(" ".join(filter(None, (word.encode("ascii", "ignore").decode() for word in words))))
    return " ".join(sentences)


CLEANERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        NO_CLEANING: lambda text: text,
        STRIP_PUNCTUATION: lambda text: text.rstrip(_STRIPPED),
        FTFY: mend,
        SENTENCES: words_of_sentences,
    }
)
