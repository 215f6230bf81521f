"""The report as one page that needs nothing else."""

from __future__ import annotations

from bench.pages.content import Content
from bench.pages.theme import variables
from runtime.files.replaceable import HTML_META

__all__ = ["html"]


def html(content: Content) -> str:
    """A whole document; whatever labels and reasons hold is text in it, never markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("bench.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = Markup  # of plots alone: matplotlib has escaped their texts
    template = environment.get_template("report.html.j2")
    page: str = template.render(content=content, variables=Markup(variables()), generator=Markup(HTML_META))
    return page
