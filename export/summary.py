"""The table at the end of an export."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from export.progress import report_console
from runtime.bundle import Artifact, Manifest, ParityRecord
from runtime.bundle.artifacts import Recipe
from runtime.process.console import report_stream

__all__ = ["print_summary"]


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
    for heading in ("file", "computed in", "on", "mean cosine", "worst", "agreement", "Spearman", "ms a batch"):
        held_out.add_column(heading, justify="left" if heading in ("file", "computed in", "on") else "right")
    tried: list[Table] = []
    counted: set[str] = set()  # packed graphs, and those that fill masks, read the weights of others
    for part in (manifest.text, manifest.image):
        for artifact in part.artifacts if part else ():
            size = sum(manifest.files[name].bytes for name in artifact.files if name not in counted)
            counted.update(artifact.files)
            operators = f"{sum(artifact.operators.values())} of {len(artifact.operators)} kinds"
            artifacts.add_row(artifact.file, artifact.precision, f"{size / 1e6:.1f} MB", operators, str(artifact.opset))
            for record in artifact.parity:
                _add_figures(figures, f"{artifact.file} ({artifact.precision})", record)
            _add_fidelity(held_out, artifact)
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


def _add_fidelity(table: Table, artifact: Artifact) -> None:
    for record in artifact.fidelity:
        figures = record.figures
        table.add_row(
            artifact.file,
            record.precision,
            record.provider,
            f"{figures['mean_cosine']:.5f}",
            f"{figures['min_cosine']:.4f}",
            f"{figures['neighbour_agreement']:.3f}",
            f"{figures['spearman']:.4f}",
            f"{record.milliseconds:.1f}",
        )


def _trials(file: str, recipe: Recipe) -> Table:
    """What the search tried, cheapest first: the Pareto list of fidelity and time."""
    table = Table(title=f"Tried for {file}, tier {recipe.tier}", title_justify="left")
    for heading in ("recipe", "on", "mean cosine", "agreement", "ms a batch", ""):
        table.add_column(heading, justify="left" if heading in ("recipe", "on") else "right")
    for trial in recipe.trials:
        table.add_row(
            trial.recipe,
            trial.provider,
            f"{trial.figures['mean_cosine']:.5f}",
            f"{trial.figures['neighbour_agreement']:.3f}",
            f"{trial.milliseconds:.1f}",
            "taken" if trial.accepted else "below",
        )
    return table
