"""A report's page as tests look at it."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["NUMBER", "Page"]

# What no page may show.
NUMBER = r"\b(?:nan|inf(?:inity)?)\b"


class Page(HTMLParser):
    """What a browser makes of the page: elements with their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]
