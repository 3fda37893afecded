"""Templates of pages, and how a page reaches the disk."""

import os
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from . import words

__all__ = ["template", "write"]


def template(name: str) -> Template:
    """A page's template, with the filters that all of them use."""
    environment = Environment(
        loader=PackageLoader("alignflow.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": words.percent,
        "plain": words.plain,
        "with_error": words.with_error,
    }
    return environment.get_template(name)


def write(page: Path, html: str) -> Path:
    """Write a page as a whole: a kill leaves the old one or the new one."""
    temporary = page.with_name(f".{page.name}")
    temporary.write_text(html, "utf-8")
    os.replace(temporary, page)
    return page
