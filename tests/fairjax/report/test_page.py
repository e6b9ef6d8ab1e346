"""The page that all reports are rendered with: contrast, tables that stay readable, text on demand."""

import re
from pathlib import Path

import pytest
from matplotlib.colors import to_rgb

from fairjax.report import audit_figures, page
from fairjax.report.layout import Cell, Fold, Row, Section, Table

STYLE = Path(page.__file__).with_name("page.html.j2").read_text()
COLOURS = dict(re.findall(r"--(\w+): (#\w+);", STYLE))


def contrast(first, second):
    """The contrast of two colours by the Web Content Accessibility Guidelines 2.2."""
    light, dark = sorted(map(luminance, (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("background", ["#fff", COLOURS["mark"], "#f4f8f3", "#f7f7f7"])
@pytest.mark.parametrize("text", ["ink", "soft", "link"])
def test_text_has_enough_contrast(text, background):
    assert contrast(COLOURS[text], background) >= 4.5


@pytest.mark.parametrize("colour", [*audit_figures.COLOURS, *audit_figures._GAP_COLOURS.values(), "0.5", "0.4"])
def test_lines_of_figures_have_enough_contrast(colour):
    assert contrast(colour, "white") >= 3


def test_tables_on_demand_look_like_other_tables():
    table = Table(["group", "rate"], [Row([Cell("a <b>"), Cell("0.5*", mark="uncertain")])], note="A note.")
    html = page.render("Title", "Lead", [Section("s", "Section", folds=[Fold("More", tables=[table]), Fold("T", "x")])])
    details = html[html.index("<details>") : html.index("</details>")]
    assert '<th scope="col">rate</th>' in details and 'aria-label="Table: Section"' in details
    assert "a &lt;b&gt;" in details and '<td class="uncertain">0.5*</td>' in details and "<pre>" not in details
    assert "<summary>T</summary><pre>x</pre>" in html
