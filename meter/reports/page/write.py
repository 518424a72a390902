"""Writes a report as one HTML page that asks nobody for anything.

Its security policy names the script and the styles by their hashes, so nothing else runs whatever the
texts of callers say. Its rows are JSON, packed; a browser without `DecompressionStream` shows all but
the table.
"""

import gzip
import json
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, TextIO

from meter.reports.page.model import UNPRICED_HEAD, Gathering
from meter.reports.page.terms import PageTerms, default_terms
from meter.reports.rows import Total
from meter.reports.usage import Report

if TYPE_CHECKING:
    from jinja2 import Template

# Apart, so that where one fails, as the library does in a browser without a language, the other runs.
_SCRIPTS = ("uplot.js", "page.js")
_STYLES = ("uplot.css", "page.css")
_PACKING = 9


async def write_page(
    report: Report, out: TextIO, total: Total, *, terms: PageTerms | None = None
) -> None:
    """Write the page at once, since its first lines are about all rows.

    The report is one of the terms' `read`; without terms its own query is the table's.
    """
    gathering = Gathering(report, terms or default_terms(report.query))
    async for row in report.rows:
        total.add(row)
        gathering.add(row)
    page = gathering.page(total.row())
    out.write(
        _template().render(
            page=page,
            unpriced_head=UNPRICED_HEAD,
            scripts=list(map(_code, _SCRIPTS)),
            styles=list(map(_code, _STYLES)),
            policy=_policy(),
            chart_licence=_asset("uplot-LICENSE.txt"),
            drawn=_inert(json.dumps(page.series.drawn)),
            rows=_packed(page.table),
        )
    )


def _packed(document: object) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    return b64encode(gzip.compress(data, _PACKING, mtime=0)).decode("ascii")


def _inert(text: str) -> str:
    """JSON that does not end the element that it is in."""
    return text.replace("<", "\\u003c")


@lru_cache(maxsize=1)
def _template() -> "Template":
    # The function app imports this module at every start, and writes a page once a night.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")


def _policy() -> str:
    """Nothing from anywhere, and of what is here only our own scripts and styles."""
    scripts, styles = (" ".join(map(_hash, names)) for names in (_SCRIPTS, _STYLES))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=8)
def _hash(name: str) -> str:
    return f"'sha256-{b64encode(sha256(_code(name).encode()).digest()).decode('ascii')}'"


def _code(name: str) -> str:
    text = f"\n{_asset(name).strip()}\n"
    assert "</s" not in text.lower(), f"{name} would end its element early"
    return text


@lru_cache(maxsize=8)
def _asset(name: str) -> str:
    return files("meter.reports.page").joinpath("assets", name).read_text(encoding="utf-8")
