"""Labels, prompts and templates as requests give them: checked as far as the runtime's own checks come too late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from runtime.serve.limits import Limits
from runtime.serve.models.contract import ServedModel
from runtime.serve.request_errors import RequestError
from runtime.serve.wire.fields import Fields
from runtime.tasks.prompt_sets import PROMPT_SETS
from runtime.tasks.prompts import SIDES
from runtime.tasks.templates import TEMPLATE_SETS, GivenTemplates
from runtime.tasks.zero_shot import SCORES

__all__ = ["check_size", "given_prompts", "given_templates"]


def given_prompts(fields: Fields, score: str) -> Any:
    """What `ServedModel.classify` takes as prompts: labels, {label: prompts}, or the name of a published set.

    Args:
        fields: with `labels` or `prompts`.
        score: of `SCORES`, which says whether a label has prompts on two sides.

    Raises:
        RequestError: neither is there, or both, or a value of another type (422).
    """
    if fields.has("labels"):
        if fields.has("prompts"):
            raise RequestError("Validation", "There are both `labels` and `prompts`; one of them is expected.")
        return fields.texts("labels")
    value = fields.values.get("prompts")
    if isinstance(value, str):
        if value not in PROMPT_SETS:
            message = f"There is no prompt set of that name; there are: {', '.join(PROMPT_SETS)}."
            raise RequestError("Validation", message, param="prompts")
        return value
    if isinstance(value, list):
        return fields.texts("prompts")
    if value is None:
        raise fields.missing("labels", "a list of labels, or `prompts`,")
    if not isinstance(value, dict):
        raise fields.wrong("prompts", "the name of a prompt set, {label: prompts} or a list of labels")
    return {label: _sides(each, score) for label, each in value.items()}


def _sides(value: Any, score: str) -> Any:
    """The prompts of a label, where each side may be a text alone."""
    if isinstance(value, str):
        return [value]
    if SCORES[score].sides != SIDES:
        return value
    if isinstance(value, Mapping):
        return {side: _listed(prompts) for side, prompts in value.items()}
    return [_listed(prompts) for prompts in value] if isinstance(value, list) else value


def _listed(prompts: Any) -> Any:
    return [prompts] if isinstance(prompts, str) else prompts


def given_templates(fields: Fields) -> GivenTemplates | None:
    """The `templates` of a request: a list, {"positive", "negative"}, the name of a set, or None for none.

    Raises:
        RequestError: no set has the name, or a value of another type (422).
    """
    value = fields.values.get("templates")
    if isinstance(value, str) and value not in TEMPLATE_SETS:
        message = f"There are no templates of that name; there are: {', '.join(TEMPLATE_SETS)}. Or give a list of them."
        raise RequestError("Validation", message, param="templates")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {side: Fields(value, "templates.").texts(side) for side in value}
    return fields.texts("templates")


def check_size(model: ServedModel, limits: Limits, prompts: Any, templates: GivenTemplates | None) -> None:
    """Refuse more prompts than a request may have texts, those counted that templates make; and prompts too long.

    Raises:
        RequestError: there are such (422).
    """
    if isinstance(prompts, str):
        return
    written = [*islice(_strings(prompts), limits.texts + 1)]
    joint = model.engine.manifest.joint
    filling = [*_templates(templates)] if templates is not None else list(joint.templates if joint else ())
    if not isinstance(prompts, list) or not filling:
        filling = [""]
    if len(written) * len(filling) > limits.texts:
        message = f"More than {limits.texts} prompts came, or are made by templates; that is the most."
        raise RequestError("Validation", message)
    if max(map(len, written), default=0) + max(map(len, filling)) > limits.characters:
        raise RequestError("Validation", f"A prompt has more than {limits.characters} characters. Shorten it.")


def _templates(templates: GivenTemplates) -> Iterator[str]:
    if isinstance(templates, str):
        known = TEMPLATE_SETS[templates].templates
        yield from (*known.positive, *known.negative)
    else:
        yield from _strings(templates)


def _strings(value: Any) -> Iterator[str]:
    """Every text within, names of labels aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, Sequence)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(each)
