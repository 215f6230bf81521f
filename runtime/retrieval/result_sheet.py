"""What a search found, as one HTML file: pictures, texts and scores, for a browser without a network.

The pictures are small copies inside the file. It has no script and loads nothing; what comes from items and queries is
escaped. Of a DICOM file only its pixels are shown, the right way up; file names and ids are shown as they are.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from runtime.bundle.parts import GREY
from runtime.errors import MissingExtraError
from runtime.files import check_destinations
from runtime.files.replaceable import HTML_META
from runtime.files.whole_file import whole_file
from runtime.image.decoders import DecodeError
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import read_picture

__all__ = ["Answer", "Hit", "write_sheet"]

_SIDE = 360
_QUALITY = 85
_STYLE = """
:root { color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; background: #101214; color: #e8e6e3; font: 15px/1.45 system-ui, sans-serif; }
header, main, footer { max-width: 1280px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 22px; margin: 0 0 4px; font-weight: 600; }
.about { color: #9a9ea3; font-size: 13px; margin: 0; }
.note { color: #101214; background: #ffb454; border-radius: 4px; padding: 6px 12px; margin: 14px 0 0;
  font-weight: 600; }
section { padding: 22px 0 6px; border-top: 1px solid #2b2f33; margin-top: 22px; }
h2 { display: flex; align-items: center; gap: 16px; font-size: 19px; font-weight: 500; margin: 0 0 16px;
  overflow-wrap: anywhere; }
h2 img { width: 150px; height: 150px; object-fit: contain; background: #000; border-radius: 4px; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 16px; }
ol.images { grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); }
li { background: #1a1d20; border: 1px solid #2b2f33; border-radius: 6px; overflow: hidden; }
li .picture { aspect-ratio: 1; background: #000; display: flex; align-items: center; justify-content: center; }
li .picture img { width: 100%; height: 100%; object-fit: contain; }
li .picture p { color: #9a9ea3; font-size: 13px; padding: 12px; text-align: center; overflow-wrap: anywhere; }
.row { display: flex; justify-content: space-between; padding: 9px 12px 3px; font-variant-numeric: tabular-nums; }
.rank { color: #9a9ea3; }
.score { font-weight: 600; }
.bar { height: 3px; margin: 0 12px; background: #2b2f33; border-radius: 2px; }
.bar i { display: block; height: 100%; background: #6aa9e0; border-radius: 2px; }
.id { color: #9a9ea3; font-size: 12.5px; padding: 6px 12px 10px; overflow-wrap: anywhere; }
.text { padding: 4px 12px 0; white-space: pre-wrap; overflow-wrap: anywhere; }
footer { color: #9a9ea3; font-size: 13px; padding-top: 26px; padding-bottom: 32px; }
@media print { :root { color-scheme: light; } body { background: #fff; color: #000; } li { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Hit:
    """One thing found.

    Attributes:
        id: of the item.
        score: cosine in [-1, 1].
        text: the text, where the item is one and it is known.
        path: where the picture can be read, where the item is an image and it is known.
    """

    id: str
    score: float
    text: str | None
    path: Path | None


@dataclass(frozen=True)
class Answer:
    """A query and what it found, best first.

    Attributes:
        query: the phrase, or the path of the image.
        kind: "text" or "image": what the query is.
        hits: best first.
    """

    query: str
    kind: str
    hits: Sequence[Hit]


@dataclass(frozen=True)
class _Reading:
    """How pictures are read."""

    dicom: DicomOptions
    colours: str


def write_sheet(
    out: Path,
    answers: Sequence[Answer],
    kind: str,
    about: str,
    notes: Sequence[str],
    dicom: DicomOptions | None = None,
    replace: bool = True,
    colours: str = GREY,
) -> None:
    """Write a sheet; the file appears whole or not at all.

    Args:
        out: the .html file.
        answers: one section each.
        kind: "text" or "image": what was found.
        about: a line on the index.
        notes: warnings at the top, and again at the end.
        dicom: how DICOM files are read, as they were for the index; None takes the defaults.
        replace: see `runtime.files.whole_file.whole_files`.
        colours: in which pictures are shown, see `runtime.image.images.read_picture`.

    Raises:
        InputError: `out` is one of the pictures, or cannot be replaced.
        OSError: a full disk, say. A picture that cannot be read is no error: its card says why.
    """
    pictures = [hit.path for answer in answers for hit in answer.hits if hit.path]
    pictures += [Path(answer.query) for answer in answers if answer.kind == "image"]
    check_destinations({"the sheet": out}, pictures, force=True)
    with whole_file(out, replace) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(_page(answers, kind, about, notes, _Reading(dicom or DicomOptions(), colours)))


def _page(answers: Sequence[Answer], kind: str, about: str, notes: Sequence[str], reading: _Reading) -> Iterator[str]:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'{HTML_META}\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>Search results</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        "<header><h1>Search results</h1>\n"
        f'<p class="about">{html.escape(about)} · scores are cosines, from −1 to 1</p>\n'
    )
    yield f'<p class="note">{html.escape(" ".join(notes))}</p>\n</header>\n<main>\n'
    for answer in answers:
        yield f"<section>\n{_heading(answer, reading)}\n"
        yield f'<ol class="{kind}s">\n'
        yield from (_card(rank, hit, kind, reading) for rank, hit in enumerate(answer.hits, 1))
        yield "</ol>\n</section>\n"
    yield f"</main>\n<footer>{html.escape(' '.join(notes))}</footer>\n</body>\n</html>\n"


def _heading(answer: Answer, reading: _Reading) -> str:
    if answer.kind == "text":
        return f"<h2>“{html.escape(answer.query)}”</h2>"
    return f"<h2>{_picture(Path(answer.query), answer.query, reading)}<span>{html.escape(answer.query)}</span></h2>"


def _card(rank: int, hit: Hit, kind: str, reading: _Reading) -> str:
    width = 100 * max(0.0, hit.score)
    parts = [
        f'<div class="picture">{_picture(hit.path, hit.id, reading)}</div>' if kind == "image" else "",
        f'<div class="row"><span class="rank">{rank}</span><span class="score">{hit.score:+.4f}</span></div>',
        f'<div class="bar"><i style="width:{width:.1f}%"></i></div>',
        f'<div class="text">{html.escape(hit.text)}</div>' if hit.text is not None else "",
        f'<div class="id">{html.escape(hit.id)}</div>',
    ]
    return f"<li>{''.join(parts)}</li>\n"


def _picture(path: Path | None, name: str, reading: _Reading) -> str:
    if path is None:
        return "<p>The index does not say where this image is.</p>"
    try:
        picture = read_picture(path, reading.colours, reading.dicom)
    except (DecodeError, MissingExtraError) as error:
        return f"<p>{html.escape(str(error))}</p>"
    small = picture.width <= _SIDE and picture.height <= _SIDE
    picture = picture.copy() if small else picture.reduce(_reduction(picture))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(name)}">'


def _reduction(image: Image.Image) -> int:
    """By how much an image can be averaged before it is resized; large films so take a fraction of the time."""
    return max(1, min(image.size) // (2 * _SIDE))
