"""llms.txt lists what the menu of the documentation lists, as the pages are now."""

import re

from tools import llms

from .pages import ROOT


def test_llms_txt_is_that_of_the_menu() -> None:
    assert llms.FILE.read_text("utf-8") == llms.text(), "python -m tools.llms writes it"


def test_it_has_every_page_of_the_documentation_once() -> None:
    text = llms.text()
    links = re.findall(r"(?m)^- \[.+?\]\(([^)]+)\)", text)
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert len(links) == len(set(links))
    assert set(links) == pages | set(llms.ELSEWHERE.values())
    assert text.startswith("# hrpose\n\n> ")


def test_links_of_the_site_are_its_pages() -> None:
    assert "(guide/install.html)" in llms.text(llms.on_site)
    assert ".md)" not in llms.text(llms.on_site)
