"""Texts are mended exactly as open_clip does it, its own functions being the reference."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.bundle import open_bundle
from runtime.errors import MissingExtraError
from runtime.text import Tokenizer
from runtime.text.cleaning import CLEANERS, check_cleaning, mend, words_of_sentences
from tests.conftest import ROOT, System

CASES = (
    "",
    " \t\r\n",
    "the patient’s “small” effusion…",
    "Effusion &lt; 2 cm &amp; stable; SpO&#8322; &amp;gt; 95&nbsp;%",
    "<b>bold</b> &lt;i&gt; with a tag, which stops ftfy's own unescaping\n&eacute;",
    "Ã©panchement pleural, MeniÃ¨re, voilÃ  le poumon, â€œquotedâ€\x9d",
    "ＬＯＵＤ　ｆｕｌｌ　ｗｉｄｔｈ, ﬁbrosis, eﬀusion",
    "tab\tform\ffeed\vvertical\x00nul\x1b[31mred\x1b[0m\x7fdel\x1cfs\x85nel\u2028ls\u200bzwsp\ufeffbom",
    "胸部X線 肺炎, エックス線, 폐렴",
    "chest 🫁 xray 👩🏽‍⚕️",
    "Cafe\u0301, Å µ ≥ ½ ﬃ",
)


def reference(text: str) -> str:
    from open_clip.tokenizer import basic_clean, whitespace_clean

    return str(whitespace_clean(basic_clean(text)))


@pytest.mark.parametrize("text", CASES, ids=ascii)
def test_cases(text: str) -> None:
    assert mend(text) == reference(text)


def test_every_pair_of_ascii_characters() -> None:
    """Those that take the short way, which leaves ftfy out, and those that must not."""
    texts = [f"a{chr(one)}{chr(other)}b{chr(one)}" for one in range(128) for other in range(128)]
    assert [text for text in texts if mend(text) != reference(text)] == []


_PIECES = st.sampled_from(
    ["&amp;", "&lt;", "&#", "x41;", "&", ";", "Ã", "©", "â€", "™", "’", "\x1b[0m", "\v", "\x1c", "ﬁ", "Ａ", "<"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=6), st.characters(codec="ascii"))).map("".join))
def test_any_text(text: str) -> None:
    assert mend(text) == reference(text)


def test_what_a_naive_cleaning_would_leave() -> None:
    """A negative control: without ftfy, or with entities replaced once, the cases above would not agree."""
    import html

    assert [text for text in CASES if " ".join(html.unescape(html.unescape(text)).split()) != reference(text)]
    assert mend("&amp;lt;") == "<" != html.unescape("&amp;lt;")
    assert CLEANERS["trailing punctuation"]("’?!.") == "’"
    assert CLEANERS["none"]("’ ?") == "’ ?"


def test_plain_texts_do_not_import_ftfy() -> None:
    script = (
        "import sys; from runtime.text.cleaning import mend; assert mend(' No  effusion. ') == 'No effusion.'; "
        "assert 'ftfy' not in sys.modules; assert mend('patient’s') == \"patient's\"; assert 'ftfy' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def as_gloria(text: str) -> str:
    """GLoRIA, `gloria_model.py`, `process_text` up to its tokenizer; of nltk, RegexpTokenizer is `findall`."""
    text = text.replace("\n", " ")
    splitter = re.compile(r"[0-9]+\.")
    captions = splitter.split(text)
    captions = [point.split(".") for point in captions]
    captions = [sent for point in captions for sent in point]
    all_sents = []
    for caption in captions:
        caption = caption.replace("\ufffd\ufffd", " ")
        tokens = re.compile(r"\w+", re.UNICODE | re.MULTILINE | re.DOTALL).findall(caption.lower())
        if len(tokens) <= 1:
            continue
        included_tokens = []
        for token in tokens:
            token = token.encode("ascii", "ignore").decode("ascii")
            if len(token) > 0:
                included_tokens.append(token)
        all_sents.append(" ".join(included_tokens))
    return " ".join(all_sents)


REPORTS = {
    "1. No effusion.\n2. Mild edema, unchanged.": "no effusion mild edema unchanged",
    "Pneumonia": "",
    "Pneumonia. Small left effusion.": "small left effusion",
    "A nodule of 1.5 cm (was 12 mm)": "a nodule of 5 cm was 12 mm",
    "Épanchement à gauche": "panchement gauche",
    "the patient’s heart\ufffd\ufffdsize [MASK]": "the patient s heart size mask",
    "": "",
}


@pytest.mark.parametrize("text", REPORTS, ids=ascii)
def test_reports_as_gloria_reads_them(text: str) -> None:
    expected = REPORTS[text]
    assert words_of_sentences(text) == as_gloria(text) == expected


_REPORT_PIECES = st.sampled_from(["1.", "12.", ".", "\n", " ", "5", "٣.", "edema", "\ufffd", "_", "É", "ﬁ", "İ"])


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(_REPORT_PIECES, st.text(max_size=4))).map("".join))
def test_any_report(text: str) -> None:
    assert words_of_sentences(text) == as_gloria(text)


def test_a_text_of_which_nothing_is_left_is_said(tiny: System) -> None:
    rules = replace(open_bundle(tiny.bundle).text_part().tokenization, cleaning="gloria")
    tokenizer = Tokenizer(tiny.bundle / "text", rules)
    empty: list[int] = []
    rows, faults = tokenizer.try_encode(["Pneumonia", "No effusion", "", "..."], on_empty=empty.append)
    assert (empty, faults) == ([0], [])
    assert rows[0] == rows[2] == tokenizer.encode([""])[0]
    assert rows[1] == tokenizer.encode(["no effusion"])[0] != rows[0]
    as_given, _ = tokenizer.try_encode(["Pneumonia"], clean=False, on_empty=empty.append)
    assert (len(as_given[0]) > 2, empty) == (True, [0])


def test_a_bundle_that_needs_ftfy_says_so_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    check_cleaning("ftfy")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'ftfy'.*pip install 'cxr-engine\[clip\]'"):
        check_cleaning("ftfy")
    check_cleaning("none")
