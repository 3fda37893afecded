"""Tables: in HTML for notebooks, in Markdown for pages of the documentation."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["html_table", "markdown_table"]


def html_table(
    title: str, head: Iterable[str], rows: Iterable[Iterable[str]], about: str = ""
) -> str:
    """Rows under a head as HTML, with a title and perhaps a line about it; all text is escaped."""
    above = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    below = f"<br>{escape(about)}" if about else ""
    table = f"<table><thead><tr>{above}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p><b>{escape(title)}</b>{below}</p>{table}"


def markdown_table(head: Sequence[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Rows under a head as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
