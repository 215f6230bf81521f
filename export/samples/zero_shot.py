"""Labelled images and prompts, by which an export measures how zero-shot classification changes.

The files are those that `python -m runtime classify` reads, by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import CalibrationError
from export.samples.calibration import listed
from export.samples.candidates import files_of_folder
from runtime.bundle.parts import Joint, Preprocessing
from runtime.engines.providers import default_threads
from runtime.errors import Fault, InputError
from runtime.image.images import load_pixels
from runtime.process.wording import counted
from runtime.tasks.evaluation import evaluate
from runtime.tasks.evaluation_report import evaluation_notes, some
from runtime.tasks.given_prompts import given_prompts
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import LabelPrompts, by_label, prompt_texts
from runtime.tasks.truth import Matches, TruthTable, match_images, read_truth
from runtime.tasks.zero_shot import SCORES, refuse_wordless, rule_of
from runtime.text import Tokenizer

__all__ = ["ZeroShotData", "ZeroShotSources", "joint_of", "zero_shot_data"]

_CHUNK = 64


@dataclass(frozen=True)
class ZeroShotSources:
    """Where labelled images and prompts are.

    Attributes:
        images: a folder.
        labels: a CSV file, see `runtime.tasks.truth`.
        prompts: a built-in set, or a JSON file.
        id_column: of the labels: which image a row is about.
    """

    images: Path
    labels: Path
    prompts: str
    id_column: str = "id"

    def places(self) -> Iterator[Path]:
        """The files and the folder that are read."""
        yield from (self.images, self.labels)
        if self.prompts not in PROMPT_SETS:
            yield Path(self.prompts)


@dataclass(frozen=True, eq=False)
class ZeroShotData:
    """Labelled images and prompts, ready for the graphs.

    Attributes:
        prompts: of each label.
        rows: token ids of all prompts, in the order of `prompt_texts`; pad_token_id fills batches of them.
        pixels: uint8 (N, …), see `Preprocessing.shape`: the images of which something is said.
        labels: those of the prompts that have a column of truth.
        truth: int8 (N, labels), see `runtime.tasks.truth`.
        joint: how cosines become probabilities.
    """

    prompts: tuple[LabelPrompts, ...]
    rows: list[list[int]]
    pad_token_id: int
    pixels: NDArray[np.uint8]
    labels: tuple[str, ...]
    truth: NDArray[np.int8]
    joint: Joint


def joint_of(name: object, joint: Joint | None) -> Joint:
    """What joins the towers by which images are classified.

    Raises:
        CalibrationError: the system or bundle of that name has nothing of the kind.
    """
    if joint is None:
        raise CalibrationError(
            f"Labelled images were given, but {name} does not embed both texts and images, so that there is no "
            "zero-shot classification to measure. Leave them out."
        )
    return joint


def zero_shot_data(
    sources: ZeroShotSources,
    tokenizer: Tokenizer,
    rule: Preprocessing,
    joint: Joint,
    *,
    note: Callable[[str], None],
    progress: Callable[[float], None] = lambda share: None,
) -> ZeroShotData:
    """Read labelled images and prompts.

    Images without a row of labels, and those that cannot be read, are left out, named and counted.

    Args:
        sources: where they are.
        tokenizer: that of the model.
        rule: the rules of the image tower.
        joint: what joins the towers.
        note: takes remarks for the user.
        progress: takes the share of the images that is read, 0 to 1.

    Raises:
        CalibrationError: the folder is missing or holds no images, no image has a row of labels or none of those that
            have one can be read, or no label has both images with it and images without it.
        InputError: the prompts or the labels cannot be used, see `given_prompts` and `read_truth`; prompts that the
            tokenizer refuses.
        MissingExtraError: a file needs an optional package.
    """
    prompts = given_prompts(sources.prompts, rule_of(joint.score), joint.score, joint.templates)
    refuse_wordless(prompts, joint.score, tokenizer)
    try:
        texts = [tokenizer.prompt(None) + text for text in prompt_texts(prompts, SCORES[joint.score].sides)]
        rows = tokenizer.encode(texts)
    except InputError as error:
        raise by_label(prompts, error) from None
    table = read_truth(sources.labels, [each.label for each in prompts], sources.id_column)
    files = [str(file) for file in files_of_folder(sources.images, note)]
    matches = match_images(table, ((file, file) for file in files))
    labelled = [file for file in files if file in matches.row_of]
    if not labelled:
        raise CalibrationError(
            f"No row of {sources.labels} belongs to an image of {sources.images}: its column '{sources.id_column}' has "
            f"{some(table.ids)}, the images are {some(files)}. Give ids that are paths, ends of paths or names of "
            "files, or --label-id-column."
        )
    pixels, kept, faults = _read(labelled, rule, progress)
    if faults:
        note(f"{sources.images}: {counted(len(faults), 'labelled image')} cannot be used and left out:{listed(faults)}")
    if not kept:
        raise CalibrationError(f"{sources.images}: no image with a row of labels can be used.{listed(faults)}")
    truth = table.values[[matches.row_of[file] for file in kept]]
    _check(sources, table, matches, truth, note)
    return ZeroShotData(prompts, rows, tokenizer.pad_token_id, pixels, table.labels, truth, joint)


def _read(
    files: Sequence[str], rule: Preprocessing, progress: Callable[[float], None]
) -> tuple[NDArray[np.uint8], list[str], list[Fault]]:
    """Pixels, the files that they are of, and what is wrong with the others."""
    pixels: list[NDArray[np.uint8]] = []
    kept: list[str] = []
    faults: list[Fault] = []
    for start in range(0, len(files), _CHUNK):
        chunk = files[start : start + _CHUNK]
        loaded, wrong = load_pixels([Path(file) for file in chunk], rule, threads=default_threads())
        bad = {fault.index for fault in wrong}
        pixels += [each.pixels for each in loaded]
        kept += [file for index, file in enumerate(chunk) if index not in bad]
        faults += wrong
        progress((start + len(chunk)) / len(files))
    return np.stack(pixels) if pixels else np.empty((0, *rule.shape), np.uint8), kept, faults


def _check(
    sources: ZeroShotSources,
    table: TruthTable,
    matches: Matches,
    truth: NDArray[np.int8],
    note: Callable[[str], None],
) -> None:
    """Refuse truth that no AUROC comes of, and say what of it takes no part."""
    counts = evaluate(table.labels, truth, np.zeros(truth.shape, np.float32))
    if counts.mean_auroc is None:
        raise CalibrationError(
            f"{sources.labels}: there is no AUROC, since no label has both images with it (1) and images without it "
            f"(0) among the {len(truth)} of {sources.images}: {', '.join(table.labels)}. Add some."
        )
    for line in evaluation_notes(counts, table, matches):
        note(f"{sources.labels}: {line}.")
