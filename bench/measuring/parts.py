"""How much of a large case each contestant computes: as much as its speed and the time allow.

The fastest compute all of it, since that is what is asked for; a slow one computes a part that stands for the whole,
or the time of all would be spent on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["plan_parts"]


def plan_parts(
    whole: Mapping[str, float], parts: Mapping[int, float], leaders: Collection[str], rounds: int, seconds: float
) -> dict[str, int]:
    """Choose a part for each contestant.

    Args:
        whole: contestants → seconds that all of the case would take, as their first passes say.
        parts: items → share of the work, ascending; the last is all.
        leaders: of those, who are to compute all where the time allows, and otherwise the same part.
        rounds: that are wanted. Each contestant computes its part once more before them.
        seconds: for all of this.

    Returns:
        Contestants → items. Nobody gets less than the least part, whatever the time.
    """
    sizes = list(parts)
    chosen = dict.fromkeys(whole, 0)

    def fits(changed: Mapping[str, int]) -> bool:
        wanted = {**chosen, **changed}
        return (rounds + 1) * sum(whole[name] * parts[sizes[at]] for name, at in wanted.items()) <= seconds

    first = [name for name in whole if name in leaders]
    for at in range(1, len(sizes)):
        if fits(dict.fromkeys(first, at)):
            chosen.update(dict.fromkeys(first, at))
    others = [name for name in whole if name not in leaders]
    while others:
        # Who takes the least time for what it has.
        name = min(others, key=lambda each: whole[each] * parts[sizes[chosen[each]]])
        if chosen[name] + 1 < len(sizes) and fits({name: chosen[name] + 1}):
            chosen[name] += 1
        else:
            others.remove(name)
    return {name: sizes[at] for name, at in chosen.items()}
