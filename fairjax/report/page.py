"""Render a page of sections from its template, as one self-contained HTML file."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fairjax.report.layout import Picture, Section


def render(title: str, lead: str, sections: Sequence[Section | None]) -> str:
    """Return the HTML of a page.

    Args:
        title: the title.
        lead: the paragraph below it.
        sections: the sections in order; None is left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    kept = [section for section in sections if section is not None]
    return environment.get_template("page.html.j2").render(title=title, lead=lead, sections=kept)


def picture(figure: Any, alt: str, caption: str) -> Picture:
    """Embed a matplotlib figure.

    Args:
        figure: the figure.
        alt: what the figure shows, for readers who cannot see it.
        caption: the text below it.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return Picture(base64.b64encode(stream.getvalue()).decode(), alt, caption, width=round(100 * figure.get_figwidth()))
