"""What was given as a checkpoint where it is none: a URL, a file, a bundle, a folder of another tool."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from export.checkpoints.hub import looks_like_hub_id
from export.checkpoints.modules import MODULES
from export.checkpoints.signatures import FOREIGN_WEIGHTS, identify, read_json, unreadable
from export.errors import CheckpointError
from export.families import FAMILIES, Family
from runtime.process.wording import few

__all__ = ["check_folder", "example_repository", "folder_names", "found_instead", "refuse_source"]

_HUB_ADDRESS = re.compile(
    r"(?:https?://|hf://|git@)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)?[/:]?(?:models/)?"
    r"(?P<repo>[\w.-]+/[\w.-]+?)(?:\.git)?(?:/(?:tree|resolve|blob|raw)/(?P<revision>[^/?#]+).*|[/?#].*)?"
)
_ADDRESS = re.compile(
    r"(?:https?|s3|gs|ftp|file|hf|azure|abfs)://|git@|(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE
)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|[^/]*\\")
_WEIGHTS = re.compile(r".*\.(bin|pt|pth|ckpt|safetensors|tar)", re.IGNORECASE)


def example_repository(family: Family) -> str:
    """A hub id that could be given for a family."""
    return family.hub.repo if family.hub else "sentence-transformers/all-MiniLM-L6-v2"


def refuse_source(source: str, family: Family) -> CheckpointError:
    """The error for a source that is neither a folder nor a hub id nor "random".

    Args:
        source: what came.
        family: what was to be exported.
    """
    given = family.given or f"a folder in the hub's layout, a hub id such as {example_repository(family)}"
    expected = f"expected {given}, or 'random'."
    return CheckpointError(f"{source!r} is no checkpoint: {expected}{_hint(source, family)}")


def _hint(source: str, family: Family) -> str:
    """What was probably meant."""
    tidy = source.strip().strip("'\"").strip()
    if not tidy:
        return ""
    path = Path(tidy)
    if _exists(path) and tidy != source:
        return f" Did you mean {tidy!r}, without the spaces or quotes around it?"
    if _exists(path):
        return _file_hint(path)
    if path.is_symlink():
        return f" It is a link to {path.readlink()}, which does not exist."
    if _ADDRESS.match(tidy):
        found = (
            _HUB_ADDRESS.fullmatch(tidy) if re.search(r"(huggingface\.co|hf\.co|hf-mirror\.com|^hf:)", tidy) else None
        )
        if found is None:
            return " It is an address: download the folder that it names, and give that."
        revision = found["revision"]
        option = f" --revision {revision}" if revision and revision != "main" else ""
        return f" The hub id in this address is: --checkpoint {found['repo']}{option}"
    if _WINDOWS.match(tidy) and os.sep == "/":
        inside = re.sub(r"^([A-Za-z]):", lambda drive: f"/mnt/{drive[1].lower()}", tidy.replace("\\", "/"))
        return f" It is a Windows path; on this system paths have '/' (in WSL it is {inside})."
    known = tidy if tidy != source and looks_like_hub_id(tidy) else None
    known = similar_repository(tidy, family) or known
    if known:
        return f" Did you mean {known}?"
    return " There is no such file or folder." if "/" in tidy or "." in tidy else ""


def similar_repository(source: str, family: Family) -> str | None:
    """A repository of the table of families whose id is nearly this text, or whose name without organisation it is."""
    own = [family.hub.repo] if family.hub else []
    repositories = [*own, *(each.hub.repo for each in FAMILIES.values() if each.hub)]
    squeezed = re.sub(r"\s", "", source).lower().replace("\\", "/")
    if squeezed in (repository.lower() for repository in repositories) and source not in repositories:
        return next(repository for repository in repositories if repository.lower() == squeezed)
    names = {repository.partition("/")[2].lower(): repository for repository in reversed(repositories)}
    whole = {repository.lower(): repository for repository in reversed(repositories)}
    for choices in (whole, names):
        if close := difflib.get_close_matches(squeezed, choices, n=1, cutoff=0.85):
            return None if choices[close[0]] == source else choices[close[0]]
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _file_hint(path: Path) -> str:
    """What a file that was given in place of a folder is."""
    if path.name in ("config.json", "manifest.json") or _WEIGHTS.fullmatch(path.name) or path.suffix == ".json":
        beside = f" Give its folder: {path.parent}"
    else:
        beside = ""
    try:
        identify(path)
    except CheckpointError as error:
        return f" {error}"
    return f" It is a file.{beside}"


def folder_names(folder: Path) -> set[str]:
    """Names in a folder.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        names = set(os.listdir(folder))  # noqa: PTH208, the names are wanted
        if names:
            (folder / min(names)).lstat()
    except OSError as error:
        raise unreadable(folder, error) from None
    return names


def check_folder(folder: Path, names: set[str], family: Family) -> None:
    """Refuse folders that hold something else than a family's checkpoint, though they may have all of its files.

    Raises:
        CheckpointError: an adapter, a bundle, or a model of sentence-transformers; the message says what to do.
    """
    if names & {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}:
        base = _base_model(folder / "adapter_config.json") if "adapter_config.json" in names else None
        raise CheckpointError(
            f"{folder} holds a LoRA or PEFT adapter, which changes another model's weights "
            f"({base or 'its base model'}). Merge the two and give the result: "
            f"PeftModel.from_pretrained(MODEL, {str(folder)!r}).merge_and_unload().save_pretrained(NEW), with the "
            "tokenizer's files beside it."
        )
    if "manifest.json" in names and names & {"text", "image"}:
        raise CheckpointError(
            f"{folder} is a bundle that was exported already: use it with python -m runtime, or measure it with "
            f"python -m export verify {folder}. --checkpoint takes the checkpoint that it was made from."
        )
    if MODULES in names and family.text is not None and not family.text.modules:
        raise CheckpointError(
            f"{folder} is a model of sentence-transformers, whose weights lack the heads of CXR-BERT. Export it as "
            "what it is: python -m export bert; or give the checkpoint that it was trained from."
        )


def _base_model(path: Path) -> str | None:
    base = read_json(path).get("base_model_name_or_path")
    return base if isinstance(base, str) else None


def found_instead(folder: Path, names: set[str]) -> str:
    """What lies in a folder without the files of a checkpoint, as a sentence with a space before it; "" for nothing."""
    if "adapter_config.json" not in names:
        for pattern, what, advice in FOREIGN_WEIGHTS:
            found = sorted(name for name in names if re.fullmatch(pattern, name, re.IGNORECASE))
            if found:
                return f" It holds {what} ({few(found)}). {advice}."
    if weights := sorted(name for name in names if _WEIGHTS.fullmatch(name)):
        return f" It holds {few(weights)}: a file of weights with another name is read once it is named as expected."
    deeper = sorted({path.parent for pattern in ("*/config.json", "*/*/config.json") for path in folder.glob(pattern)})
    if deeper:
        return f" The checkpoint may be deeper: {few([str(path) for path in deeper])}"
    return " It is empty." if not names else ""
