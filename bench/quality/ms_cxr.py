"""Where phrases are found in radiographs: zero-shot phrase grounding on MS-CXR, with the papers' metrics.

Sources: Boecking et al. (ECCV 2022) for the data set, the contrast-to-noise ratio and the mean IoU; Bannur et al. (CVPR
2023) for the signed ratio. The papers' average is the mean of the eight findings' means; that over all phrases is given
beside it, since the findings differ in number. The metrics themselves are `runtime.tasks.grounding`'s.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.quality.encoders import PYTORCH, add_encoder_options, engine_name, identity, torch_threads
from bench.quality.ms_cxr_annotations import AnnotatedImage, Annotations, read_annotations
from bench.quality.ms_cxr_files import find_images
from bench.quality.ms_cxr_scores import Averages, Evaluation, Maps, average, average_classes, by_class, evaluate
from bench.quality.ms_cxr_torch import torch_maps
from runtime.commands.argument_types import count
from runtime.commands.arguments import load_engine
from runtime.engine import Engine
from runtime.errors import InputError
from runtime.process import print_json, print_note, print_result
from runtime.process.progress import Progress
from runtime.process.wording import few
from runtime.tasks.grounding import THRESHOLDS

__all__ = ["NAME", "SUMMARY", "add_options", "print_report", "run"]

NAME = "ms-cxr"
SUMMARY = "Phrase grounding on MS-CXR: contrast-to-noise ratio, mean IoU and pointing game, finding by finding."

_CLASSES, _PHRASES = "mean of the findings", "all phrases"
_COLUMNS = ("CNR", "|CNR|", "mIoU", "pointing")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_encoder_options(parser)
    parser.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="FILE",
        help="MS_CXR_Local_Alignment_v….csv or .json, as PhysioNet has them",
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the images: by the annotations' paths, or by dicom_id; of any size, JPEG, PNG or DICOM",
    )
    parser.add_argument("--split", help="only this split, which annotations have from version 1.1.0 on (all)")
    parser.add_argument("--limit", type=count, metavar="N", help="only the first N images that are there (all)")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    annotations = read_annotations(options.annotations, options.split)
    files = find_images(annotations.images, options.images)
    missing = [image.path or image.dicom_id for image in annotations.images if image.dicom_id not in files]
    if not files:
        raise InputError(
            f"None of the {len(missing)} images of {options.annotations} is in {options.images}: neither by path "
            f"({few(missing)}) nor by dicom_id."
        )
    left_out = {"boxes left out": annotations.left_out, "images not found": missing}
    for what, names in left_out.items():
        _tell(what, names)
    there = [image for image in annotations.images if image.dicom_id in files][: options.limit]
    engine = load_engine(options, None)
    phrases = [phrase.text for image in there for phrase in image.phrases]
    _, faults = engine.text.tokenizer.try_encode(phrases)
    if faults:
        raise InputError.from_faults("phrases", faults, len(phrases))
    systems = _systems(engine, options, phrases)
    with Progress("image", len(there)) as progress:
        evaluation = evaluate(there, files, systems, progress.advance)
    if not evaluation.phrases:
        raise InputError(f"None of the images can be used: {few(evaluation.unusable)}.")
    left_out["images that cannot be used"] = evaluation.unusable
    _tell("images that cannot be used", evaluation.unusable)
    _tell("images of another shape, whose boxes may be misplaced", evaluation.misshapen)
    report = _report(options, annotations, there, left_out, evaluation, list(systems), engine)
    print_json(report) if options.json else print_report(report)


def _systems(engine: Engine, options: argparse.Namespace, phrases: Sequence[str]) -> Mapping[str, Maps]:
    systems: dict[str, Maps] = {
        engine_name(engine): lambda file, texts: [found.similarity_map for found in engine.ground_phrases(file, texts)]
    }
    if options.checkpoint is not None:
        systems[PYTORCH] = torch_maps(engine, options.checkpoint, phrases, torch_threads(options))
    return systems


def _tell(what: str, names: Sequence[str]) -> None:
    if names:
        print_note(f"{what} ({len(names)}): {few(names)}")


def _report(
    options: argparse.Namespace,
    annotations: Annotations,
    images: Sequence[AnnotatedImage],
    left_out: Mapping[str, Sequence[str]],
    evaluation: Evaluation,
    systems: Sequence[str],
    engine: Engine,
) -> dict[str, Any]:
    classes = by_class(evaluation.phrases)
    results = {}
    for system in systems:
        means = {name: average(phrases, system) for name, phrases in classes.items()}
        means[_CLASSES] = average_classes(list(means.values()))
        means[_PHRASES] = average(evaluation.phrases, system)
        results[system] = {name: _described(each) for name, each in means.items()}
    return {
        "annotations": options.annotations.name,
        "split": options.split,
        "maps": "attention of words" if engine.manifest.joint and engine.manifest.joint.attention else "cosines",
        "images": len(images) - len(evaluation.unusable),
        "phrases": len(evaluation.phrases),
        "phrases_outside_the_crop": len(evaluation.phrases) - results[systems[0]][_PHRASES]["phrases"],
        "boxes_cut_off_at_the_edge": annotations.clipped,
        **{name.replace(" ", "_"): list(names) for name, names in left_out.items()},
        "images_of_another_shape": evaluation.misshapen,
        "results": results,
        "largest_difference_of_a_cosine": evaluation.differences,
        **identity(NAME, engine),
        "each": [
            {
                "dicom_id": phrase.dicom_id,
                "category_name": phrase.category,
                "label_text": phrase.text,
                **{system: _described(average([phrase], system)) for system in systems},
            }
            for phrase in evaluation.phrases
        ],
    }


def _described(found: Averages) -> dict[str, Any]:
    return {
        "phrases": found.phrases,
        "cnr": _finite(found.cnr),
        "absolute_cnr": _finite(found.absolute_cnr),
        "miou": _finite(found.miou),
        "iou": {f"{threshold:g}": _finite(iou) for threshold, iou in zip(THRESHOLDS, found.ious, strict=True)},
        "pointing": _finite(found.pointing),
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def print_report(report: Mapping[str, Any]) -> None:
    """Print what --json prints, but for the single phrases, as a table."""
    results = report["results"]
    print_result(f"{report['annotations']}: {report['phrases']} phrases of {report['images']} images")
    for number, what in (
        (report["boxes_cut_off_at_the_edge"], "boxes cut off at the edge of their image"),
        (report["phrases_outside_the_crop"], "phrases outside what the model sees, which count for nothing"),
    ):
        if number:
            print_result(f"{what}: {number}")
    names = list(next(iter(results.values())))
    width = max(map(len, names))
    block = 9 * len(_COLUMNS)
    print_result(f"{'':{width}}         " + "   ".join(f"{system:>{block}}" for system in results))
    print_result(f"{'':{width}}  phrases" + "   ".join("".join(f"{column:>9}" for column in _COLUMNS) for _ in results))
    for name in names:
        if name == _CLASSES:
            print_result()
        count = next(iter(results.values()))[name]["phrases"]
        print_result(f"{name:{width}}  {count:7}" + "   ".join(_cells(found[name]) for found in results.values()))
    for system, difference in report["largest_difference_of_a_cosine"].items():
        print_result(f"largest difference of a pixel's cosine to {system}: {difference:.1e}")


def _cells(found: Mapping[str, Any]) -> str:
    kinds = (("cnr", "+9.3f"), ("absolute_cnr", "9.3f"), ("miou", "9.3f"), ("pointing", "9.1%"))
    return "".join(f"{'–':>9}" if found[name] is None else format(found[name], kind) for name, kind in kinds)
