"""Messages of the runtime without what they quote of a request, and with what they say of the project."""

from __future__ import annotations

import pytest

from runtime.errors import InputError
from runtime.serve.wire.failures import dialect_of, request_error, without_quotes
from runtime.tasks.given_prompts import resolve


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("nothing is quoted", "nothing is quoted"),
        ("the model's own and the bundle's", "the model's own and the bundle's"),
        ("There is no 'secret'; there are: a, b.", "There is no …; there are: a, b."),
        ("'secret' is both a positive and a negative prompt.", "… is both a positive and a negative prompt."),
        ("has 'it' and \"it's secret\"; both", "has …; both"),
        ("“secret ” secret”: long", "…: long"),
        ("cut off: 'secret", "cut off: …"),
        ("the score 'pairs' takes ['secret'] alone", "the score pairs takes […] alone"),
        ("'secret 'pairs' secret' is none of 'softmax'", "… is none of softmax"),
        ("lines: 'secret\nsecret'", "lines: …"),
    ],
)
def test_quotations(message: str, told: str) -> None:
    assert without_quotes(message) == told


def test_what_the_runtime_says_of_itself_stays() -> None:
    with pytest.raises(InputError) as raised:
        resolve("chexpert", "clip", "softmax")
    assert "chexpert affirm and deny each label, which the score pairs compares" in request_error(raised.value).message
    with pytest.raises(InputError) as raised:
        resolve({"secret": ["secret"], "Secret": ["secret"]}, "clip", "softmax")
    told = request_error(raised.value)
    assert "secret" not in told.message.lower() + str(told.items).lower()
    assert "is given twice" in told.message


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/embeddings", "openai"),
        ("/v1", "openai"),
        ("/embeddings", "openai"),
        ("/v2/models/x/infer", "kserve"),
        ("/v2", "kserve"),
        ("/embeddings2", "tei"),
        ("/v20", "tei"),
        ("/", "tei"),
        ("", "tei"),
        ("/embed", "tei"),
    ],
)
def test_dialects(path: str, dialect: str) -> None:
    assert dialect_of(path) == dialect
