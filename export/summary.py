"""The table at the end of an export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rich.table import Table

from export.precision.remedies import remedy
from export.progress import report_console
from export.proof.shown import Figure, bounds, cells, columns, headings
from runtime.bundle import Artifact, Manifest, ParityRecord
from runtime.bundle.artifacts import Recipe
from runtime.process.console import note_stream, report_stream

__all__ = ["print_left_out", "print_summary"]


def print_summary(manifest: Manifest, out: Path, seconds: float) -> None:
    """Print artifacts with size, operators and parity figures, and where the bundle is."""
    console = report_console(report_stream())
    artifacts = Table(title="Artifacts", title_justify="left")
    figures = Table(title="Compared with PyTorch (packed graphs: with their plain twins)", title_justify="left")
    for heading in ("file", "precision", "size", "operators", "opset"):
        artifacts.add_column(heading, justify="right" if heading in ("size", "opset") else "left")
    for heading in ("what", "on", "figure", "value", "gate"):
        figures.add_column(heading, justify="right" if heading in ("value", "gate") else "left")
    held_out = Table(title="Fidelity on held-out data", title_justify="left")
    exported = [artifact for part in (manifest.text, manifest.image) if part for artifact in part.artifacts]
    shown_figures = columns(record.figures for artifact in exported for record in artifact.fidelity)
    for heading in ("file", "computed in", "on", *headings(shown_figures), "ms a batch"):
        justify = "left" if heading in ("file", "computed in", "on") else "right"
        held_out.add_column(heading, justify=justify, overflow="fold")
    tried: list[Table] = []
    counted: set[str] = set()  # packed graphs, and those that fill masks, read the weights of others
    for artifact in exported:
        size = sum(manifest.files[name].bytes for name in artifact.files if name not in counted)
        counted.update(artifact.files)
        operators = f"{sum(artifact.operators.values())} of {len(artifact.operators)} kinds"
        artifacts.add_row(artifact.file, artifact.precision, f"{size / 1e6:.1f} MB", operators, str(artifact.opset))
        for record in artifact.parity:
            _add_figures(figures, f"{artifact.file} ({artifact.precision})", record)
        _add_fidelity(held_out, artifact, shown_figures)
        if artifact.recipe and len({trial.recipe for trial in artifact.recipe.trials}) > 1:
            tried.append(_trials(artifact.file, artifact.recipe))
    for check in manifest.checks:
        _add_figures(figures, check.cases, check)
    console.print(artifacts)
    console.print(figures)
    if held_out.row_count:
        console.print(held_out)
    for table in tried:
        console.print(table)
    for name, data in manifest.calibration.items():
        console.print(
            f"{name}: calibrated with {data.items}, judged by {data.held_out} others of '{data.name}' (seed {data.seed}"
            f"{f', {data.skipped} skipped' if data.skipped else ''}).",
            highlight=False,
        )
    source = manifest.source
    if source.kind == "random":
        console.print(
            "RANDOM WEIGHTS: this bundle proves that the machinery works. Its answers mean nothing.", style="bold"
        )
    elif source.published:
        console.print("The image weights are the published file (md5 agrees).")
    total = sum(entry.bytes for entry in manifest.files.values())
    console.print(
        f"Bundle: {out}  ({len(manifest.files)} files, {total / 1e6:.1f} MB, {seconds:.0f} s)", highlight=False
    )
    console.print("For research only, not for clinical use.", highlight=False)


def _add_figures(table: Table, what: str, record: ParityRecord) -> None:
    for name, value in record.figures.items():
        shown = f"{value:.7f}" if "cosine" in name else f"{value:.2g}"
        sign = "≥" if name.startswith("min_") else "≤"
        gate = f"{sign} {record.gates[name]:g}" if name in record.gates else ""
        engine = record.provider if record.provider != "none" else ""
        table.add_row(what, engine, name, shown, gate)
        what = ""
    table.add_section()


def _add_fidelity(table: Table, artifact: Artifact, shown_figures: Sequence[Figure]) -> None:
    for record in artifact.fidelity:
        shown = (*cells(record.figures, None, shown_figures), f"{record.milliseconds:.1f}")
        table.add_row(artifact.file, record.precision, record.provider, *shown)


def _trials(file: str, recipe: Recipe) -> Table:
    """What the search tried, cheapest first: the Pareto list of fidelity and time."""
    table = Table(title=f"Tried for {file}, tier {recipe.tier}", title_justify="left")
    shown_figures = columns(trial.figures for trial in recipe.trials)
    for heading in ("recipe", "on", *headings(shown_figures), "ms a batch", ""):
        table.add_column(heading, justify="left" if heading in ("recipe", "on", "") else "right")
    for trial in recipe.trials:
        shown = (*cells(trial.figures, None, shown_figures), f"{trial.milliseconds:.1f}" if trial.figures else "–")
        table.add_row(trial.recipe, trial.provider, *shown, "taken" if trial.accepted else trial.verdict)
    return table


def print_left_out(manifest: Manifest, precisions: Sequence[str]) -> None:
    """Print on standard error what missed its gates and is not in the bundle, and what to do.

    Args:
        manifest: of the bundle.
        precisions: that were asked for.
    """
    console = report_console(note_stream())
    table = Table(title="Left out of the bundle", title_justify="left", show_lines=True)
    for heading in ("precision", "file, for", "required", "reached", "why, and what to do"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("required", "reached"))
    for left in manifest.left_out:
        reached = [f"{left.best[name]:.5f}" if name in left.best else "–" for name in left.required]
        table.add_row(
            f"{left.part} {left.precision}" + (f"\ntier {left.tier}" if left.tier else ""),
            f"{PurePosixPath(left.file).name}\n{', '.join(left.providers)}",
            "\n".join(bounds({name: bound}) for name, bound in left.required.items()),
            "\n".join(reached),
            f"{left.reason}.\n{remedy(left.part, left.precision, left.tier, left.cause)}",
        )
    console.print(table)
    parts = {"text": manifest.text, "image": manifest.image}
    kept = [
        name
        for name in dict.fromkeys(left.part for left in manifest.left_out)
        if "fp32" not in precisions and (part := parts[name]) and part.artifacts[0].precision == "fp32"
    ]
    if kept:
        console.print(f"fp32, which is proven, is kept in its place: {', '.join(kept)}.", highlight=False)
