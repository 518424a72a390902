"""Links between the pages lead to a file, and to a heading that it has."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.running import REPOSITORY

PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"<a id=\"([\w-]+)\"></a>")


def text_of(page: Path) -> str:
    """Without code blocks, where a line may begin with `#`."""
    return CODE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings as GitHub links them, and the anchors set by hand."""
    text = text_of(page)
    found = set(ANCHOR.findall(text))
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"))
    return frozenset(found)


def is_dead(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_link_is_dead(page: Path) -> None:
    """A heading that is renamed is renamed in the links to it."""
    links = [link for link in LINK.findall(text_of(page)) if ":" not in link]

    assert [link for link in links if is_dead(page, link)] == []


def test_a_dead_link_is_found() -> None:
    """By its file, and by its heading."""
    page = REPOSITORY / "README.md"

    assert is_dead(page, "docs/no-such-page.md")
    assert is_dead(page, "docs/glossary.md#no-such-heading")
    assert not is_dead(page, "docs/glossary.md#glossary")
