"""Draw where an image resembles a phrase."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.archive import check_output
from runtime.archive.output import write_array
from runtime.commands.argument_types import as_text
from runtime.commands.arguments import (
    RANDOM_WEIGHTS,
    RESEARCH_ONLY,
    add_bundle,
    add_engine_options,
    add_force,
    add_json,
    load_engine,
)
from runtime.commands.inputs import add_previous
from runtime.errors import Fault, InputError
from runtime.files import check_destinations
from runtime.image.images import read_picture
from runtime.process import print_json, print_note, report_written
from runtime.tasks.grounding import THRESHOLDS, Box, Grounding, GroundingScores, score_grounding

NAME = "ground"
SUMMARY = "Draw where an image resembles a phrase, and measure it against boxes."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("image", help="image file")
    parser.add_argument("phrase", type=as_text, metavar="PHRASE", help="one phrase")
    parser.epilog = (
        "Of a vision transformer (CLIP, BiomedCLIP) the map is made of its patch tokens, projected as the class token "
        "is: nothing aligned them with texts."
    )
    parser.add_argument("--out", type=Path, help="the .png file to write (IMAGE-grounding.png)")
    parser.add_argument("--save-map", type=Path, metavar="NPY", help="write the map as well, float32 (H, W)")
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="X,Y,WIDTH,HEIGHT",
        help="where the phrase is, in pixels from the image's top left corner: drawn, and measured against; may be "
        "repeated",
    )
    add_previous(parser)
    add_force(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from runtime.tasks.overlay import draw_overlay

    out = options.out or Path(f"{Path(options.image).stem}-grounding.png")
    check_output(out, (".png",))
    if options.save_map:
        check_output(options.save_map, (".npy",))
    files = {"--out": out, "--save-map": options.save_map}
    inputs = [each for each in (options.image, options.previous) if each]
    check_destinations(files, inputs, sealed=[options.bundle], force=options.force)
    boxes = _read_boxes(options.box)
    engine = load_engine(options, None)
    found = engine.ground(options.image, options.phrase, previous=options.previous)
    height, width = found.similarity_map.shape
    _check_within(boxes, (width, height))
    scores = score_grounding(found.similarity_map, boxes) if boxes else None
    is_random = engine.manifest.source.kind == "random"
    picture = read_picture(options.image, engine.image.preprocessing.colours, engine.image.dicom)
    note = f"{RANDOM_WEIGHTS} {RESEARCH_ONLY}" if is_random else RESEARCH_ONLY
    draw_overlay(picture, found, options.phrase, out, boxes=boxes, scores=scores, note=note, replace=options.force)
    if options.save_map:
        write_array(options.save_map, found.similarity_map, options.force)
    if options.json:
        files = {"overlay": str(out), "map": str(options.save_map) if options.save_map else None}
        described = {"image": options.image, "phrase": options.phrase, **_described(found, scores), **files}
        print_json(described)
        return
    report_written(f"image–text similarity {found.score:+.4f}, strongest patch {found.patches[found.strongest]:+.4f}")
    if scores and math.isnan(scores.pointing):
        report_written("the boxes lie outside what the model sees: nothing is measured")
    elif scores:
        report_written(f"CNR {scores.cnr:+.4f}, mIoU {scores.miou:.4f}, pointing game {scores.pointing:.0%}")
    report_written(f"overlay → {out}")
    if options.save_map:
        report_written(f"map float32 {found.similarity_map.shape} → {options.save_map}")


def _read_boxes(texts: Sequence[str]) -> list[Box]:
    boxes, faults = [], []
    for index, text in enumerate(texts):
        try:
            values = [float(value) for value in text.split(",")]
            if len(values) != 4:
                raise ValueError
            boxes.append(Box(*values))
        except InputError as error:
            faults.append(Fault(index, f"--box {text}", str(error)))
        except ValueError:
            faults.append(Fault(index, f"--box {text}", "four numbers are expected: X,Y,WIDTH,HEIGHT, in pixels"))
    if faults:
        raise InputError.from_faults("boxes", faults, len(texts))
    return boxes


def _check_within(boxes: Sequence[Box], size: tuple[int, int]) -> None:
    """Refuse boxes that lie outside the image; say of others that they are cut off."""
    parts = [box.clipped(size) for box in boxes]
    shown = f"{size[0]} × {size[1]} pixels"
    faults = [
        Fault(index, f"--box {box}", f"lies outside the image of {shown}")
        for index, (box, part) in enumerate(zip(boxes, parts, strict=True))
        if part is None
    ]
    if faults:
        raise InputError.from_faults("boxes", faults, len(boxes))
    for box, part in zip(boxes, parts, strict=True):
        if part != box:
            print_note(f"--box {box} is cut off at the edge of the image of {shown}.")


def _described(found: Grounding, scores: GroundingScores | None) -> dict[str, Any]:
    row, column = found.strongest
    described: dict[str, Any] = {
        "similarity": found.score,
        "strongest_patch": {
            "similarity": float(found.patches[row, column]),
            # Its centre, in pixels of the image.
            "x": found.crop.x + (column + 0.5) * found.crop.width / found.patches.shape[1],
            "y": found.crop.y + (row + 0.5) * found.crop.height / found.patches.shape[0],
        },
        "crop": [found.crop.x, found.crop.y, found.crop.width, found.crop.height],
    }
    if scores:
        figures = {"cnr": scores.cnr, "absolute_cnr": scores.absolute_cnr, "miou": scores.miou}
        figures["pointing_game"] = scores.pointing
        described |= figures
        described["iou"] = {f"{at:g}": iou for at, iou in zip(THRESHOLDS, scores.ious, strict=True)}
    return described
