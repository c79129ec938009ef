"""Every link inside the repository leads to a file that is there, and to a heading in it."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, name, prose

LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)|(?:src|href)=\"(?P<html>[^\"]+)\"")
# Pages that only the site has, made while it is built.
MADE = {"reference/cli.md", "recipes.md", "changelog.md", "benchmarks.md", "examples.md"}


def links(page: Path) -> Iterator[str]:
    for match in LINK.finditer(prose(page)):
        target = match["target"] or match["html"]
        if not re.match(r"[a-z]+:", target):
            yield target


@cache
def anchors(page: Path) -> frozenset[str]:
    """Headings as GitHub and the site make anchors of them, and those that are written out."""
    text = re.sub(r"(?ms)^ *```.*?^ *```\s*$", "", page.read_text(encoding="utf-8"))
    found = set(re.findall(r"(?:\{ ?#|id=\")([\w-]+)", text))
    for heading in re.findall(r"(?m)^#+ (.*?)(?: \{.*\})?$", text):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.strip().replace(" ", "-"))
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.is_relative_to(ROOT / "docs") and name(target)[5:] in MADE:
            continue
        assert target.is_relative_to(ROOT), f"{link}: leads out of the repository"
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_links_are_found() -> None:
    assert sum(1 for page in PAGES for _ in links(page)) > 50
