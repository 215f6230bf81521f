"""Texts are mended exactly as open_clip does it, its own functions being the reference."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.text.cleaning import CLEANERS, mend
from tests.conftest import ROOT

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
