"""`python -m export verify BUNDLE`: measure a bundle's fidelity again, on this machine and on other data."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from export.options import add_zero_shot_options, asked_zero_shot
from export.progress import Steps, report_console
from export.proof.fidelity import missed_gates
from export.proof.fill_mask_parity import MaskedCases, fill_mask_parity, masked_cases, session_answers
from export.proof.judge import Judge
from export.proof.parity import exceeded
from export.proof.shown import cells, columns, headings
from export.proof.text_parity import packed_parity
from export.proof.verify_judge import HeldOutSources, judges_of, pairs_judge_of, processor, zero_shot_of
from export.samples.zero_shot import ZeroShotSources
from runtime.bundle import FILL_MASK, PACKED, PAIR, PATCHES, Artifact, Bundle, FidelityRecord, ParityRecord, open_bundle
from runtime.commands.arguments import add_bundle, add_json
from runtime.commands.parsing import CommandParser
from runtime.engines import PROVIDERS, Provider, SessionOptions, choose_provider
from runtime.engines.providers import default_threads
from runtime.process import print_json, print_result
from runtime.process.console import result_stream
from runtime.text import Tokenizer

__all__ = ["Verified", "verify_bundle"]


@dataclasses.dataclass(frozen=True)
class Verified:
    """One artifact on one engine.

    Attributes:
        recorded: what was measured at the export; None where nothing was.
        found: what is measured here.
        packed: its twin that takes several texts a row, compared with it here; None where the engine runs none.
        masks: its twin that fills masks, compared with the fp32 one; None where there is none.
        patches: its twin that embeds patches as well, measured as `found` is; None where there is none.
    """

    part: str
    file: str
    recorded: FidelityRecord | None
    found: FidelityRecord
    packed: ParityRecord | None = None
    masks: ParityRecord | None = None
    patches: FidelityRecord | None = None

    @property
    def missed(self) -> list[str]:
        """Lines for the figures below the gates that held at the export."""
        twins = {"packed": self.packed, "masks": self.masks}
        missed = [f"{name}: {line}" for name, twin in twins.items() if twin for line in exceeded(twin)]
        if self.patches:
            missed += [f"patches: {line}" for line in missed_gates(self.patches.figures, self.patches.gates)]
        return missed_gates(self.found.figures, self.found.gates) + missed


def verify_bundle(
    path: Path,
    *,
    text: Path | None = None,
    column: str = "text",
    paired: str | None = None,
    images: Path | None = None,
    provider: str | None = None,
    zero_shot: ZeroShotSources | None = None,
    steps: Steps | None = None,
) -> list[Verified]:
    """Compare every artifact with the bundle's fp32 graph, which the export proved equal to PyTorch.

    Those that have a twin for several texts a row, which is what the runtime runs, are compared with it as well; those
    that have one that fills masks have its words compared with those of the fp32 graph, and of those that have one that
    embeds patches both are compared with their fp32 graph. Graphs of pairs of images are measured like those of single
    ones.

    Args:
        path: the bundle.
        text: held-out texts (.txt, .csv, .jsonl, .parquet); None takes the built-in ones. For the file that the bundle
            was calibrated with, the very same split is made again, and only its held-out part is used.
        column: of the texts.
        paired: column of what each is to find; None takes the second half of each text for its first.
        images: a folder with held-out images, alike.
        provider: one engine; None takes all that can run here.
        zero_shot: labelled images and prompts, by which the change of zero-shot AUROC is measured, too.
        steps: where progress is shown.

    Raises:
        BundleError: no bundle, files changed, or no fp32 artifact to compare with.
        CalibrationError: the data cannot be used, or labelled images came for a bundle that does not classify them.
        InputError: prompts or labels that cannot be used.
        ProviderError: the provider cannot run here, or none can.
    """
    steps = steps or Steps()
    bundle = open_bundle(path)
    bundle.verify(bundle.manifest.files)
    chosen = [choose_provider(provider)[0].name] if provider else [*PROVIDERS]
    sources = HeldOutSources(text, column, paired, images)
    classified = None
    if zero_shot:
        with steps.step("embedding the labelled images and their prompts with the fp32 artifacts"):
            classified = zero_shot_of(bundle, zero_shot, chosen, steps)
        steps.note(classified.in_words())
    verified: list[Verified] = []
    for part in bundle.parts():
        with steps.step(f"{part}: embedding held-out data with the fp32 artifact"):
            judge, patches_judge = judges_of(bundle, part, sources, chosen, classified, steps)
            cases = _masked_cases(bundle) if part == "text" else None
        with steps.step(f"{part}: measuring every artifact"):
            for artifact in bundle.artifacts(part):
                for engine, precision, computed in _combinations(artifact, judge):
                    recorded = _recorded(artifact, engine.name, precision)
                    gates = recorded.gates if recorded else {}
                    with steps.substep(f"{artifact.file} on {engine.name}"):
                        found = judge.record(engine, bundle.path(artifact.file), precision, gates, computed)
                        packed = _packed(bundle, part, artifact, engine, computed or precision)
                        masks = _masks(bundle, artifact, engine, computed or precision, cases)
                        patches = _patches(bundle, artifact, engine, precision, computed, patches_judge)
                        verified.append(Verified(part, artifact.file, recorded, found, packed, masks, patches))
    if bundle.manifest.image is not None and bundle.manifest.image.images > 1:
        verified += _pairs(bundle, sources, chosen, steps)
    return verified


def _pairs(bundle: Bundle, sources: HeldOutSources, chosen: list[str], steps: Steps) -> Iterator[Verified]:
    """The graphs of pairs of images."""
    with steps.step("image: embedding pairs of held-out images with the fp32 artifact"):
        judge = pairs_judge_of(bundle, sources, chosen, steps)
    with steps.step("image: measuring every artifact that compares images"):
        for artifact in bundle.artifacts("image", role=PAIR):
            for engine, precision, computed in _combinations(artifact, judge):
                recorded = _recorded(artifact, engine.name, precision)
                gates = recorded.gates if recorded else {}
                with steps.substep(f"{artifact.file} on {engine.name}"):
                    found = judge.record(engine, bundle.path(artifact.file), precision, gates, computed)
                    yield Verified("image", artifact.file, recorded, found)


def _combinations(artifact: Artifact, judge: Judge) -> Iterator[tuple[Provider, str, str | None]]:
    """Engine, precision, and what the engine is told where that differs; as `export.precision.floats` measured it."""
    for engine in judge.engines_for(artifact.providers):
        stands_in = engine.name not in artifact.providers
        if artifact.precision == "bf16" and (stands_in or engine.refuses("bf16")):
            yield from ((other, "bf16", "fp16") for other in judge.engines if other.name == "openvino")
            continue
        yield engine, artifact.precision, None
        if artifact.precision == "fp32":
            yield from ((engine, each, each) for each in sorted(engine.from_fp32) if engine.refuses(each) is None)


def _packed(bundle: Bundle, part: str, plain: Artifact, engine: Provider, computed: str) -> ParityRecord | None:
    """The graph that takes several texts a row against the one that takes one, where the engine is meant for both."""
    twins = [found for found in bundle.artifacts(part, engine.name, PACKED) if found.precision == plain.precision]
    if engine.name not in plain.providers or not twins:
        return None
    options = SessionOptions(threads=default_threads(), precision=computed)
    alone, side_by_side = (engine.open(bundle.path(found.file), options) for found in (plain, twins[0]))
    tokenizer = Tokenizer(bundle.path(part), bundle.text_part().tokenization)
    pooling = bundle.text_part().pooling
    return packed_parity(alone, side_by_side, engine.name, computed, tokenizer, _vocab_size(bundle), pooling=pooling)


def _masked_cases(bundle: Bundle) -> MaskedCases | None:
    """Texts with masks and the words of the fp32 graph on a processor; None where it fills none."""
    reference = processor()
    found = [each for each in bundle.artifacts("text", reference.name, FILL_MASK) if each.precision == "fp32"]
    if not found:
        return None
    session = reference.open(bundle.path(found[0].file), SessionOptions(threads=default_threads(), precision="fp32"))
    tokenizer = Tokenizer(bundle.path("text"), bundle.text_part().tokenization)
    name = f"the fp32 graph on {reference.name}"
    return masked_cases(session_answers(session, tokenizer), name, tokenizer, _vocab_size(bundle))


def _masks(
    bundle: Bundle, plain: Artifact, engine: Provider, computed: str, cases: MaskedCases | None
) -> ParityRecord | None:
    if cases is None or engine.name not in plain.providers:
        return None
    twins = [each for each in bundle.artifacts("text", engine.name, FILL_MASK) if each.precision == plain.precision]
    if not twins:
        return None
    options = SessionOptions(threads=default_threads(), precision=computed)
    return fill_mask_parity(engine.open(bundle.path(twins[0].file), options), engine.name, computed, cases)


def _patches(
    bundle: Bundle, plain: Artifact, engine: Provider, precision: str, computed: str | None, judge: Judge | None
) -> FidelityRecord | None:
    """The graph that embeds patches, by the gates that held at the export."""
    if judge is None:
        return None
    # Both spellings of int8 have one: that of the same engines.
    of = (plain.precision, plain.providers)
    twins = [each for each in bundle.artifacts("image", role=PATCHES) if (each.precision, each.providers) == of]
    if not twins:
        return None
    recorded = _recorded(twins[0], engine.name, precision)
    gates = recorded.gates if recorded else {}
    return judge.record(engine, bundle.path(twins[0].file), precision, gates, computed)


def _vocab_size(bundle: Bundle) -> int:
    return int(json.loads(bundle.path("text/config.json").read_text(encoding="utf-8"))["vocab_size"])


def _recorded(artifact: Artifact, provider: str, precision: str) -> FidelityRecord | None:
    found = [each for each in artifact.fidelity if (each.provider, each.precision) == (provider, precision)]
    return found[-1] if found else None


def main(arguments: list[str]) -> int:
    """Run the command and return the exit status: 0 all gates hold, 1 one does not."""
    parser = _parser()
    options = parser.parse_args(arguments)
    verified = verify_bundle(
        Path(options.bundle),
        text=options.text,
        column=options.column,
        paired=options.paired_column,
        images=options.images,
        provider=options.provider,
        zero_shot=ZeroShotSources(*labelled) if (labelled := asked_zero_shot(parser, options)) else None,
    )
    missed = [f"{each.file} on {each.found.provider}: {line}" for each in verified for line in each.missed]
    if options.json:
        print_json({"missed": missed, "artifacts": [dataclasses.asdict(each) for each in verified]})
    else:
        report_console(result_stream()).print(_table(verified))
        print_result("\n".join(missed) or "Every gate that held at the export holds here.")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m export verify",
        description="Measure a bundle's fidelity on this machine: int8 results differ between processors and data.",
    )
    add_bundle(parser)
    parser.add_argument("--text", type=Path, metavar="FILE", help="held-out texts: .txt, .csv, .jsonl or .parquet")
    parser.add_argument("--column", default="text", help="column of the texts (text)")
    parser.add_argument(
        "--paired-column",
        metavar="NAME",
        help="column of what each text is to find, such as impressions by findings (the second half of each text)",
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder with held-out images")
    parser.add_argument("--provider", choices=list(PROVIDERS), help="one engine (all that can run here)")
    add_zero_shot_options(parser)
    add_json(parser)
    return parser


def _table(verified: list[Verified]) -> Table:
    table = Table(title="Against the bundle's fp32 graph (in brackets: at the export)", title_justify="left")
    shown_figures = columns(each.found.figures for each in verified)
    for heading in ("file", "computed in", "on", *headings(shown_figures), "ms a batch", "packed", "words", "patches"):
        justify = "left" if heading in ("file", "computed in", "on") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for each in verified:
        found, recorded = each.found, each.recorded
        shown = cells(found.figures, recorded.figures if recorded else None, shown_figures)
        # How far a text moves when it shares its row: the largest difference in fp32, else the smallest cosine.
        figures = each.packed.figures if each.packed else {}
        name = "max_abs" if found.precision == "fp32" else "min_cosine"
        packed = f"{figures[name]:{'.1e' if name == 'max_abs' else '.5f'}}" if figures else ""
        # Masks at which the best word is that of fp32.
        words = f"{each.masks.figures['top_word_agreement']:.1%}" if each.masks else ""
        patches = f"{each.patches.figures['mean_patch_cosine']:.5f}" if each.patches else ""
        milliseconds = f"{found.milliseconds:.1f}"
        table.add_row(each.file, found.precision, found.provider, *shown, milliseconds, packed, words, patches)
    return table
