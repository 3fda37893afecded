"""Tables: in HTML for notebooks, in Markdown for the documentation, printed in a terminal."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["html_table", "markdown_table", "print_table"]


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


def print_table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under a head, as wide as the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*head, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    console.print(table, soft_wrap=not console.is_terminal)
