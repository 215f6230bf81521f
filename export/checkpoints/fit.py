"""A checkpoint's tensors beside those that a model needs: names made equal, faults gathered and summed up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch

from export.errors import CheckpointError

__all__ = ["ExpectedTensors", "fit_tensors"]

# Parts of names that training adds around a model: DataParallel and DeepSpeed, torch.compile, FSDP, Lightning Fabric.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
# Added where a part was saved without the model around it: transformers' BertModel names its tensors without "bert.".
_OMITTED = "bert."
# Names of the layer normalization in checkpoints converted from TensorFlow.
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
# More faults of a kind than this are summed up by the beginnings of their names.
_LISTED = 10
_SUMMED = 6


@dataclass(frozen=True)
class ExpectedTensors:
    """What a model needs of a checkpoint.

    Attributes:
        state: the model's state dict; names, shapes and kinds of numbers count, not values.
        harmless: prefixes of tensors that may be absent or additional.
        tied: tensors that may be absent, and which tensor each must equal where it is present.
        hints: prefix → what it means that all tensors of the model with that prefix are missing, and what to do.
    """

    state: Mapping[str, torch.Tensor]
    harmless: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)


def fit_tensors(
    found: Mapping[str, Mapping[str, torch.Tensor]],
    expected: Mapping[str, ExpectedTensors],
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, torch.Tensor]]:
    """Compare a checkpoint's tensors with the models'.

    Prefixes of wrappers and of a larger model around this one are taken off the names.

    Args:
        found: part → the checkpoint's tensors.
        expected: part → what its model needs.
        note: called with a line for the user where names were changed or tensors of a larger model left out.

    Returns:
        part → the tensors to load: those of the model that the checkpoint has.

    Raises:
        CheckpointError: tensors missing, unexpected, of a wrong shape or kind of numbers, with NaN or infinity, or tied
            tensors that differ; those of all parts are listed together, by name, more than ten of a kind by prefix.
    """
    named = {part: _renamed(part, found[part], wanted, note) for part, wanted in expected.items()}
    lines: list[str] = []
    count = 0
    for part, wanted in expected.items():
        faults = _faults(named[part], wanted)
        count += sum(map(len, faults.values()))
        for kind, entries in faults.items():
            lines += _summed(part, kind, entries)
        lines += [
            f"{part}: {hint}"
            for prefix, hint in wanted.hints.items()
            if _all_missing(prefix, wanted, faults.get("missing", {}))
        ]
    if count:
        raise CheckpointError(f"The weights do not fit the model, {count} faults:\n  " + "\n  ".join(lines))
    return {
        part: {name: named[part][name] for name in wanted.state if name in named[part]}
        for part, wanted in expected.items()
    }


def _faults(found: Mapping[str, torch.Tensor], expected: ExpectedTensors) -> dict[str, dict[str, str]]:
    """Kind of fault → name → the rest of its line."""
    state, harmless = expected.state, tuple(expected.harmless)
    faults: dict[str, dict[str, str]] = {}
    for name in sorted(state.keys() | found.keys()):
        kind = rest = ""
        if name not in found:
            if name not in expected.tied and not name.startswith(harmless):
                kind, rest = "missing", f"{tuple(state[name].shape)}"
        elif name not in state:
            if not name.startswith(harmless):
                kind, rest = "unexpected", f"{tuple(found[name].shape)}"
        elif found[name].shape != state[name].shape:
            kind, rest = "wrong shape", f"{tuple(found[name].shape)}, expected {tuple(state[name].shape)}"
        elif found[name].is_floating_point() != state[name].is_floating_point():
            # Quantized weights that are given as whole numbers, above all.
            wanted = "floating point" if state[name].is_floating_point() else "whole numbers"
            kind, rest = "wrong type", f"{str(found[name].dtype).removeprefix('torch.')}, expected {wanted}"
        elif not bool(torch.isfinite(found[name]).all()):
            kind, rest = "not finite", "holds NaN or infinity"
        elif expected.tied.get(name) in found and not torch.equal(found[name], found[expected.tied[name]]):
            kind, rest = "not tied", f"differs from {expected.tied[name]}"
        if kind:
            faults.setdefault(kind, {})[name] = rest
    return faults


def _all_missing(prefix: str, expected: ExpectedTensors, missing: Mapping[str, str]) -> bool:
    """Whether no tensor with a prefix is there, though others of the model are."""
    needed = {name for name in expected.state if name.startswith(prefix) and name not in expected.tied}
    others = expected.state.keys() - expected.tied.keys() - needed
    return bool(needed) and needed <= missing.keys() and not others <= missing.keys()


def _summed(part: str, kind: str, entries: Mapping[str, str]) -> list[str]:
    """A line a tensor, or one for all of them where they are many."""
    if len(entries) <= _LISTED:
        return [f"{part}: {kind:<11} {name} {rest}" for name, rest in entries.items()]
    return [f"{part}: {len(entries)} tensors {kind}: {_by_prefix(entries)}"]


def _by_prefix(names: Iterable[str]) -> str:
    """Names summed up by their beginnings, the most frequent first."""
    groups = Counter(_group(name) for name in names)
    shown = [f"{group} ({count})" if count > 1 else group for group, count in groups.most_common(_SUMMED)]
    rest = sum(groups.values()) - sum(count for _, count in groups.most_common(_SUMMED))
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _group(name: str) -> str:
    """The beginning of a name up to its first number, or its first two words: "bert.encoder.layer.*"."""
    words = name.split(".")
    numbered = next((index for index, word in enumerate(words) if index and word.isdigit()), min(2, len(words) - 1))
    return ".".join([*words[:numbered], "*"]) if numbered else name


def _renamed(
    part: str, found: Mapping[str, torch.Tensor], expected: ExpectedTensors, note: Callable[[str], None]
) -> dict[str, torch.Tensor]:
    """The tensors by the model's own names."""
    state = expected.state
    plain = {name: _plain(name) for name in found}
    prefix, added = _place(plain.values(), state)
    names: dict[str, str] = {}
    outside = []
    for name, short in plain.items():
        if not prefix or short.startswith(prefix):
            short = short.removeprefix(prefix)
            names[name] = added + short if added and _known(expected, added + short) else short
        elif short in state:
            names[name] = short
        else:
            outside.append(name)
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise CheckpointError(
            f"{part}: several tensors have the name {twice[0]} once the names of wrappers are taken off: "
            f"{', '.join(name for name, short in names.items() if short == twice[0])}. Save the model to export alone."
        )
    wrappers = sorted({word for name in found for word in name.split(".") if word in _WRAPPERS})
    if wrappers or prefix:
        taken = [f"'{word}.'" for word in wrappers] + ([f"'{prefix}'"] if prefix else [])
        note(f"{part}: {' and '.join(taken)} taken off the tensors' names")
    if any(name != short for name, short in names.items()) and added:
        note(f"{part}: '{added}' put before the names of tensors, which were saved without it")
    if outside:
        note(f"{part}: {len(outside)} tensors outside '{prefix}' are left out: {_by_prefix(outside)}")
    return {short: found[name] for name, short in names.items()}


def _known(expected: ExpectedTensors, name: str) -> bool:
    """Whether the model, or a checkpoint of it, has a tensor of that name."""
    return name in expected.state or name.startswith(tuple(expected.harmless))


def _plain(name: str) -> str:
    """A name less what wrappers add, in today's spelling."""
    if any(f".{word}." in f".{name}" for word in _WRAPPERS):
        name = ".".join(word for word in name.split(".") if word not in _WRAPPERS)
    for old, new in _OLD_NAMES:
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _place(names: Iterable[str], state: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    """Where in a larger model this one lies, and what its names lack: the prefixes that fit most tensors.

    Raises:
        CheckpointError: the model is there more than once.
    """
    votes: Counter[tuple[str, str]] = Counter()
    for name in names:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        for start in starts:
            for added in ("", _OMITTED):
                if added + name[start:] in state and not (added and name[:start].endswith(added)):
                    votes[name[:start], added] += 1
    if not votes:
        return "", ""
    (best, most), *others = votes.most_common()
    if votes["", ""] == most:
        return "", ""
    rivals = [prefix for (prefix, _), count in others if count == most and prefix != best[0]]
    if rivals:
        raise CheckpointError(
            f"The model is there {len(rivals) + 1} times, under the prefixes "
            f"{', '.join(repr(prefix) for prefix in (best[0], *rivals))}. Save the one to export alone."
        )
    return best
