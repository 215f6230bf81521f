"""What a bundle holds and what can run it here."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from runtime.bundle import open_bundle
from runtime.providers import PROVIDERS, unavailable_reason

__all__ = ["describe_bundle", "print_description"]


def describe_bundle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Open a bundle, verify every file, and describe it together with this machine's engines.

    Returns:
        JSON-ready: bundle, verified_files, bytes, manifest, providers (name → None, or why it cannot run here).

    Raises:
        BundleError: no bundle, or files missing or changed.
    """
    bundle = open_bundle(path)
    bundle.verify(bundle.manifest.files)
    return {
        "bundle": str(bundle.root),
        "verified_files": len(bundle.manifest.files),
        "bytes": sum(entry.bytes for entry in bundle.manifest.files.values()),
        "manifest": dataclasses.asdict(bundle.manifest),
        "providers": {name: unavailable_reason(provider) for name, provider in PROVIDERS.items()},
    }


def print_description(description: dict[str, Any]) -> None:
    """Print what `describe_bundle` gave, for people."""
    manifest = description["manifest"]
    source = manifest["source"]
    origin = {
        "hub": f"{source['name']} at {source['revision']} ({source['commit']})",
        "folder": f"folder '{source['name']}'",
        "random": f"RANDOM WEIGHTS, seed {source['seed']}: answers mean nothing",
    }.get(source["kind"], f"{source['kind']} '{source['name']}'")
    published = {True: "yes (md5 agrees)", False: "no", None: "not compared"}[source["published"]]
    print(f"{description['bundle']}: {manifest['family']}, schema {manifest['schema_version']}")
    print(f"  weights    {origin}; the published image weights: {published}")
    print(f"  exported   {manifest['created']} with torch {manifest['versions'].get('torch', '?')}")
    print(f"  files      {description['verified_files']}, {description['bytes'] / 1e6:.1f} MB, sha256 verified")
    for name in ("text", "image"):
        part = manifest[name]
        if part is None:
            continue
        detail = (
            f"up to {part['max_length']} tokens"
            if name == "text"
            else f"shorter side {part['resize']}, crop {part['crop']}, {part['grid']} × {part['grid']} patches"
        )
        print(f"  {name:10} {part['embedding_size']} dimensions, {detail}")
        for artifact in part["artifacts"]:
            print(f"    {artifact['precision']:8} {artifact['file']}, opset {artifact['opset']}")
            for record in artifact["parity"]:
                figures = ", ".join(f"{key} {value:.3g}" for key, value in record["figures"].items())
                print(f"             against {record['reference']} on {record['provider']}: {figures}")
    print("engines here")
    for provider, reason in description["providers"].items():
        print(f"    {provider:8} {'installed' if reason is None else 'no: ' + reason}")
