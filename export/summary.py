"""The table at the end of an export."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from runtime.manifest import Manifest, ParityRecord

__all__ = ["print_summary"]


def print_summary(manifest: Manifest, out: Path, seconds: float) -> None:
    """Print artifacts with size, operators and parity figures, and where the bundle is."""
    console = Console()
    artifacts = Table(title="Artifacts", title_justify="left")
    figures = Table(title="Compared with PyTorch", title_justify="left")
    for heading in ("file", "precision", "size", "operators", "opset"):
        artifacts.add_column(heading, justify="right" if heading in ("size", "opset") else "left")
    for heading in ("what", "on", "figure", "value", "gate"):
        figures.add_column(heading, justify="right" if heading in ("value", "gate") else "left")
    for part in (manifest.text, manifest.image):
        for artifact in part.artifacts if part else ():
            size = sum(manifest.files[name].bytes for name in artifact.files)
            operators = f"{sum(artifact.operators.values())} of {len(artifact.operators)} kinds"
            artifacts.add_row(artifact.file, artifact.precision, f"{size / 1e6:.1f} MB", operators, str(artifact.opset))
            for record in artifact.parity:
                _add_figures(figures, f"{artifact.file} ({artifact.precision})", record)
    for check in manifest.checks:
        _add_figures(figures, check.cases, check)
    console.print(artifacts)
    console.print(figures)
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
        gate = f"≤ {record.gates[name]:g}" if name in record.gates else ""
        engine = record.provider if record.provider != "none" else ""
        table.add_row(what, engine, name, shown, gate)
        what = ""
    table.add_section()
