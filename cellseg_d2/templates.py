"""Jinja templates of the pages that are written: every value is escaped, a name that is missing is an error."""

from pathlib import Path

import jinja2

__all__ = ["template_environment"]


def template_environment(folder: Path) -> jinja2.Environment:
    """The environment of the templates in a folder, which may include ``base.css``, what all pages look like."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
