"""What a bundle holds and what can run it here."""

from __future__ import annotations

import dataclasses
import math
import os
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

from runtime.bundle import FILL_MASK, PACKED, PAIR, PATCHES, WORDS, Bundle, open_bundle
from runtime.choice.decision import decide
from runtime.choice.precision import MEAN_COSINE, MIN_FIDELITY, choose_precision, format_cosine
from runtime.choice.trial import kept_trials
from runtime.choice.tuned import read_tuning
from runtime.engines import PROVIDERS, Provider, default_threads, unavailable_reason
from runtime.errors import BundleError, ProviderError
from runtime.process import print_result

__all__ = ["describe_bundle", "print_description"]

_WIDTH = 120
_COLUMN = 17
_RECIPE_WIDTH = 60
_SHOWN = 3
_ROLES = {
    PACKED: ", several texts a row",
    FILL_MASK: ", words for masks",
    PAIR: ", with a previous image",
    PATCHES: ", with patches",
    WORDS: ", with words",
}
_POOLED = {
    "cls": "[CLS]",
    "mean": "mean of all tokens",
    "eos": "last token",
    "layers": "last four layers",
    "max": "maxima",
}
# What patch embeddings are where nothing was trained to align them with texts.
_PATCHES = {"vit": "patch tokens, projected"}
# How a system's authors turn cosines into probabilities.
_SCORES = {
    "pairs": "what affirms a label is compared with what denies it",
    "softmax": "labels are compared with each other",
    "sigmoid": "each label stands alone",
}
_SIDES = {
    "shortest": "shorter side",
    "longest": "longer side",
    "longest by factor": "longer side",
    "squash": "squashed to",
}
_NOUNS = {"text": "texts", "image": "images"}
# The figures of a trial that are printed, beside its time.
_TRIAL_FIGURES = {MEAN_COSINE: "mean cosine", "neighbour_agreement": "agreement"}


def describe_bundle(
    path: str | os.PathLike[str], precision: str = "auto", min_fidelity: float = MIN_FIDELITY
) -> dict[str, Any]:
    """Open a bundle, verify every file, and describe it together with this machine's engines.

    Args:
        path: the bundle's folder.
        precision: as for `runtime.load`.
        min_fidelity: as for `runtime.load`.

    Returns:
        JSON-ready: bundle, verified_files, bytes, manifest, providers (name → None, or why it cannot run here),
        processors (name → what it computes on here), choices (name → part → precision, file, mean_cosine and text, or
        the error that `runtime.load` would raise; only of providers that can run here), auto (what provider="auto"
        takes and why, by what is known now, or why it takes none).

    Raises:
        BundleError: no bundle, or files missing or changed.
    """
    bundle = open_bundle(path)
    bundle.verify(bundle.manifest.files)
    reasons = {name: unavailable_reason(provider) for name, provider in PROVIDERS.items()}
    usable = {name: PROVIDERS[name] for name, reason in reasons.items() if reason is None}
    return {
        "bundle": str(bundle.root),
        "verified_files": len(bundle.manifest.files),
        "bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "manifest": dataclasses.asdict(bundle.manifest),
        "providers": reasons,
        "processors": {name: provider.processor() for name, provider in PROVIDERS.items()},
        "precision": precision,
        "min_fidelity": min_fidelity,
        "choices": {name: _choices(bundle, provider, precision, min_fidelity) for name, provider in usable.items()},
        "auto": _auto(bundle, precision, min_fidelity),
    }


def _auto(bundle: Bundle, precision: str, min_fidelity: float) -> str:
    parts, threads, kept = bundle.parts(), default_threads(), partial(kept_trials, bundle)
    try:
        plans, failures = decide(
            bundle, parts, "auto", dict.fromkeys(parts, precision), min_fidelity, threads, read_tuning(bundle), kept
        )
    except ProviderError as error:
        return str(error)
    return plans[0].reason if plans else "; ".join(f"{name}: {error}" for name, error in failures.items())


def _choices(bundle: Bundle, provider: Provider, precision: str, min_fidelity: float) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    for part in bundle.parts():
        try:
            choice = choose_precision(bundle, part, provider, precision, min_fidelity)
        except (BundleError, ProviderError) as error:
            chosen[part] = {"error": str(error)}
        else:
            figures = choice.fidelity.figures if choice.fidelity else {}
            chosen[part] = {
                "precision": choice.precision,
                "file": choice.artifact.file,
                "mean_cosine": figures.get(MEAN_COSINE),
                "text": str(choice),
            }
    return chosen


def print_description(description: dict[str, Any]) -> None:
    """Print what `describe_bundle` gave, for people, in 120 columns."""
    _print_origin(description)
    manifest = description["manifest"]
    for name in ("text", "image"):
        if manifest[name] is not None:
            _print_part(name, manifest, description["processors"])
    if manifest["joint"] is not None:
        _row("  joint", _describe_joint(manifest["joint"]))
    _print_engines(description)


def _print_origin(description: dict[str, Any]) -> None:
    manifest = description["manifest"]
    source = manifest["source"]
    origin = {
        "hub": f"{source['name']} at {source['revision']} ({source['commit']})",
        "folder": f"folder '{source['name']}'",
        "random": f"RANDOM WEIGHTS, seed {source['seed']}: answers mean nothing",
    }.get(source["kind"], f"{source['kind']} '{source['name']}'")
    published = {True: "yes (md5 agrees)", False: "no", None: "not compared"}[source["published"]]
    published = f"; the published image weights: {published}" if manifest["image"] else ""
    print_result(f"{description['bundle']}: {manifest['family']}, schema {manifest['schema_version']}")
    _row("  weights", f"{origin}{published}")
    _row("  exported", f"{manifest['created']} with torch {manifest['versions'].get('torch', '?')}")
    _row("  files", f"{description['verified_files']}, {description['bytes'] / 1e6:.1f} MB, sha256 verified")


def _describe_text(part: dict[str, Any]) -> str:
    pooled = _POOLED.get(part["pooling"], part["pooling"])
    made = pooled if part["projection"] == "none" else f"projected {pooled}"
    rules = part["tokenization"]
    beyond = {"refused": "longer texts are refused", "cut": "longer texts are cut"}[rules["too_long"]]
    prompts = f", prompts {', '.join(rules['prompts'])}" if rules["prompts"] else ""
    return f"{made}, up to {rules['max_length']} tokens ({beyond}){prompts}"


def _describe_image(part: dict[str, Any]) -> str:
    pixels, grid = part["preprocessing"], part["grid"]
    sides = _SIDES[pixels["resize"]]
    patches = f"{grid} × {grid} {_PATCHES.get(part['architecture'], 'patches')}" if grid else "no patches"
    return (
        f"{pixels['colours']}, {sides} {pixels['size']} ({pixels['interpolation']}), crop {pixels['crop']}, {patches}"
    )


def _describe_joint(joint: dict[str, Any]) -> str:
    templates = f", templates {'; '.join(joint['templates'][:_SHOWN])}" if joint["templates"] else ""
    more = f" and {len(joint['templates']) - _SHOWN} more" if len(joint["templates"]) > _SHOWN else ""
    scale = f"scale {joint['logit_scale']:g}" + (f", bias {joint['logit_bias']:g}" if joint["logit_bias"] else "")
    score = f"score {joint['score']}: {_SCORES[joint['score']]}"
    return f"{joint['embedding_size']} dimensions, {score}; {scale}{templates}{more}"


def _print_part(name: str, manifest: dict[str, Any], processors: dict[str, str]) -> None:
    part = manifest[name]
    detail = _describe_text(part) if name == "text" else _describe_image(part)
    _row(f"  {name}", f"{part['architecture']}, {part['embedding_size']} dimensions, {detail}")
    calibration = manifest["calibration"].get(name)
    if calibration is not None:
        skipped = f", {calibration['skipped']} skipped" if calibration["skipped"] else ""
        named = "" if calibration["kind"] == "built-in" else f" '{calibration['name']}'"
        _row(
            "",
            f"calibrated with {calibration['items']} {_NOUNS[name]} of {calibration['kind']}{named}, "
            f"judged by {calibration['held_out']} others (seed {calibration['seed']}{skipped})",
        )
    for artifact in part["artifacts"]:
        _print_artifact(artifact, _NOUNS[name], processors)
    for left in manifest["left_out"]:
        if left["part"] == name:
            _print_left_out(left)


def _print_artifact(artifact: dict[str, Any], noun: str, processors: dict[str, str]) -> None:
    engines = ", ".join(artifact["providers"]) or "no engine"
    role = _ROLES.get(artifact["role"], "")
    _row(f"    {artifact['precision']}", f"{artifact['file']}{role}, opset {artifact['opset']}, for {engines}")
    for record in artifact["parity"]:
        _row("", f"against {record['reference']} on {record['provider']}: {_figures(record['figures'])}")
    for record in artifact["fidelity"]:
        _print_fidelity(record, artifact["precision"], noun, processors)
    recipe = artifact["recipe"]
    if recipe is not None:
        _row("", f"recipe {recipe['name']}, tier {recipe['tier']}")
        _print_trials(recipe["trials"])


def _print_left_out(left: dict[str, Any]) -> None:
    tier = f", tier {left['tier']}" if left["tier"] else ""
    _row(f"    {left['precision']}", f"left out: {left['file']} for {', '.join(left['providers'])}{tier}")
    _row("", left["reason"])
    if left["required"]:
        _row("", f"required: {', '.join(f'{name} {bound:g}' for name, bound in left['required'].items())}")
    if left["best"]:
        _row("", f"the nearest: {_figures(left['best'])}")
    _print_trials(left["trials"])


def _print_fidelity(record: dict[str, Any], precision: str, noun: str, processors: dict[str, str]) -> None:
    computed = "" if record["precision"] == precision else f" in {record['precision']}"
    _row(
        "",
        f"fidelity on {record['provider']}{computed}: {_figures(record['figures'])} on {record['items']} held-out "
        f"{noun}, {record['milliseconds']:.1f} ms a batch",
    )
    if record["processor"] != processors.get(record["provider"]):
        _row(" " * (_COLUMN + 2), f"measured on {record['processor']}; recompute with: python -m export verify BUNDLE")


def _print_trials(trials: Sequence[dict[str, Any]]) -> None:
    """A table of what was measured, for each engine."""
    measured = [trial for trial in trials if trial["figures"]]
    for provider in dict.fromkeys(trial["provider"] for trial in measured):
        _print_table(provider, [trial for trial in measured if trial["provider"] == provider])


def _print_table(provider: str, trials: Sequence[dict[str, Any]]) -> None:
    """The trials that no other beats in both fidelity and time, and those accepted."""
    best = [trial for trial in trials if trial["accepted"] or not any(_beats(other, trial) for other in trials)]
    best.sort(key=lambda trial: trial["milliseconds"])
    title = f"tried on {provider}"
    width = min(max(len(name) for name in (title, *(trial["recipe"] for trial in best))), _RECIPE_WIDTH)
    margin = " " * _COLUMN
    heads = [f"{margin}{title:{width}}", *(f"{name:>11}" for name in _TRIAL_FIGURES.values()), f"{'ms':>8}"]
    print_result(" ".join(heads))
    for trial in best:
        recipe = textwrap.shorten(trial["recipe"], width, placeholder="…")
        cells = [f"{_figure(name, trial['figures'].get(name)):>11}" for name in _TRIAL_FIGURES]
        accepted = ["accepted"] if trial["accepted"] else []
        print_result(" ".join([f"{margin}{recipe:{width}}", *cells, f"{trial['milliseconds']:8.1f}", *accepted]))
    if len(best) < len(trials):
        print_result(f"{margin}and {len(trials) - len(best)} more, each beaten in both")


def _beats(other: dict[str, Any], trial: dict[str, Any]) -> bool:
    """Whether `other` is as faithful and as fast, and better in one of the two."""
    mine, its = ((_fidelity(each), -each["milliseconds"]) for each in (trial, other))
    return its != mine and its[0] >= mine[0] and its[1] >= mine[1]


def _fidelity(trial: dict[str, Any]) -> float:
    value = trial["figures"].get(MEAN_COSINE, math.nan)
    return -math.inf if math.isnan(value) else value


def _print_engines(description: dict[str, Any]) -> None:
    asked = f"precision {description['precision']}"
    if description["precision"] == "auto":
        asked += f" and a mean cosine of at least {description['min_fidelity']:g}"
    print_result(f"engines here, with {asked}")
    _row("    auto", description["auto"])
    for provider, reason in description["providers"].items():
        if reason is not None:
            _row(f"    {provider}", f"no: {reason}")
            continue
        chosen = description["choices"][provider].values()
        runs = ", ".join(each["text"] for each in chosen if "text" in each)
        errors = dict.fromkeys(f"no: {each['error']}" for each in chosen if "error" in each)
        for number, line in enumerate(filter(None, (runs, *errors))):
            _row("" if number else f"    {provider}", line)


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {_figure(name, value)}" for name, value in figures.items())


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return format_cosine(value) if "cosine" in name else f"{value:.3g}"


def _row(label: str, text: str) -> None:
    """A label and a text in the column beside it, wrapped to the width."""
    beside = max(len(label), _COLUMN)
    lines = textwrap.wrap(text, _WIDTH - beside, break_long_words=False, break_on_hyphens=False)
    print_result(f"{label:{beside}}{lines[0] if lines else ''}")
    for line in lines[1:]:
        print_result(f"{'':{beside}}{line}")
