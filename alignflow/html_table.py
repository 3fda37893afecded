"""Tables for notebooks."""

from collections.abc import Iterable
from html import escape

__all__ = ["html_table"]


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
