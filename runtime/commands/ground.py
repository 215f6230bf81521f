"""Draw where an image resembles a phrase."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from runtime.arguments import RANDOM_WEIGHTS, RESEARCH_ONLY, add_bundle, add_engine_options, load_engine
from runtime.images import read_grey
from runtime.output import check_output, write_array

NAME = "ground"
SUMMARY = "Draw where an image resembles a phrase."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_bundle(parser)
    add_engine_options(parser)
    parser.add_argument("image", help="image file")
    parser.add_argument("phrase", metavar="PHRASE", help="one phrase")
    parser.add_argument("--out", type=Path, help="the .png file to write (IMAGE-grounding.png)")
    parser.add_argument("--save-map", type=Path, metavar="NPY", help="write the map as well, float32 (H, W)")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    from runtime.overlay import draw_overlay

    out = options.out or Path(f"{Path(options.image).stem}-grounding.png")
    check_output(out, (".png",))
    if options.save_map:
        check_output(options.save_map, (".npy",))
    engine = load_engine(options, None)
    similarity_map = engine.similarity_map(options.image, options.phrase)
    score = engine.similarity(options.image, options.phrase)
    is_random = engine.manifest.source.kind == "random"
    note = f"{RANDOM_WEIGHTS} {RESEARCH_ONLY}" if is_random else RESEARCH_ONLY
    draw_overlay(
        read_grey(options.image, not options.keep_monochrome1), similarity_map, options.phrase, score, out, note
    )
    row, column = np.unravel_index(np.nanargmax(similarity_map), similarity_map.shape)
    print(f"image–text similarity {score:+.4f}, strongest patch {similarity_map[row, column]:+.4f}")
    print(f"overlay → {out}")
    if options.save_map:
        write_array(options.save_map, similarity_map)
        print(f"map float32 {similarity_map.shape} → {options.save_map}")
