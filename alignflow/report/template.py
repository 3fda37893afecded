"""Templates of pages, and how a page reaches the disk."""

import re
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from alignflow.checkpoint.writing import write_atomically
from alignflow.metrics.names import label

from . import words

__all__ = ["template", "write"]


def template(name: str, package: str = "alignflow.report") -> Template:
    """A page's template, with the filters that all of them use.

    Args:
        name: Of the file.
        package: Where it lies; what it extends may lie here.
    """
    places = dict.fromkeys((package, "alignflow.report"))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(place, "") for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": label,
        "percent": words.percent,
        "plain": words.plain,
        "rate_with_error": words.rate_with_error,
        "sections": _sections,
        "with_error": words.with_error,
    }
    return environment.get_template(name)


def write(page: Path, html: str) -> Path:
    """Write a page as a whole: a kill leaves the old one or the new one."""
    write_atomically(page, html)
    return page


def _sections(body: str) -> list[tuple[str, Markup]]:
    """Id and heading of each section of a page, for its contents."""
    found = re.findall(r'<section id="([^"]+)">\s*<h2>(.*?)</h2>', body)
    return [(anchor, Markup(heading)) for anchor, heading in found]
