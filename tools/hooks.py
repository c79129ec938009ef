"""Hooks of MkDocs, which it calls while it builds the site.

Files from elsewhere in the repository (changelog, benchmarks, recipes) become pages, links to them
are rewritten, and the page of the command line is generated from the commands.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools import command_line, llms

ROOT = Path(__file__).resolve().parents[1]

# Files outside docs/ that are pages of the site.
ADOPTED = {source: page for page, source in llms.ELSEWHERE.items()}

# How much more a word counts in the search where users look, than in decisions and history.
WEIGHTS = {
    "guide/questions": 4, "guide/install": 4, "guide/": 3, "index": 3, "how-it-works": 2, "zh/": 2,
    "reference/cli": 0.3, "reference/": 0.2, "architecture": 0.3, "benchmarks": 0.2,
    "models/history/": 0.1, "decisions/": 0.1, "changelog": 0.1,
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and expand each `folder/*` of the navigation."""
    for source, page in ADOPTED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    files.append(File.generated(config, "recipes.md", content=_recipes()))
    files.append(File.generated(config, "reference/cli.md", content=command_line.page()))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = _filled(config.nav, pages, set(_named(config.nav)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links out of docs/ to their page of the site; without one, keep only the text.

    The page also gets its weight in the search.
    """
    here = page.file.src_uri
    for start, weight in WEIGHTS.items():
        if here.startswith(start):
            page.meta.setdefault("search", {"boost": weight})
    origin = {page: source for source, page in ADOPTED.items()}.get(here, f"docs/{here}")

    def rewritten(match: re.Match[str]) -> str:
        words, target, anchor = match["words"], match["target"], match["anchor"] or ""
        path = normpath(f"{origin.rpartition('/')[0]}/{target}".lstrip("/"))
        if path.startswith("docs/"):
            return f"[{words}]({relpath(path[5:], here.rpartition('/')[0] or '.')}{anchor})"
        if path in ADOPTED:
            return f"[{words}]({relpath(ADOPTED[path], here.rpartition('/')[0] or '.')}{anchor})"
        if path.startswith("recipes/"):
            page = relpath("recipes.md", here.rpartition("/")[0] or ".")
            return f"[{words}]({page}#{Path(path).stem})"
        return words

    return re.sub(
        r"(?<!!)\[(?P<words>[^\]]*)\]\((?P<target>(?![a-z]+:)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)",
        rewritten,
        markdown,
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Embed SVG drawings, which the style sheet colors for light and dark.

    Short words of code, such as options, are marked: they are not broken.
    """

    def embedded(match: re.Match[str]) -> str:
        url = re.search(r'src="([^"]+)"', match[0])
        words = re.search(r'alt="([^"]*)"', match[0])
        assert url is not None
        assert words is not None
        path = normpath(f"{page.file.src_uri.rpartition('/')[0]}/{url[1]}".lstrip("/"))
        drawing = (ROOT / "docs" / path).read_text("utf-8")
        drawing = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", drawing)
        drawing = drawing.replace("<svg ", f'<svg aria-label="{words[1]}" ', 1)
        return f'<div class="drawing">{drawing}</div>'

    html = re.sub(r"<code>(?=[^<\n]{1,22}</code>)", '<code class="short">', html)
    return re.sub(r'<p><img [^>]*src="[^"]+\.svg"[^>]*></p>', embedded, html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Set the language of Chinese pages, so that browsers choose fonts and line breaks for it."""
    if page.file.src_uri.startswith("zh/"):
        return output.replace('<html lang="en"', '<html lang="zh-CN"', 1)
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Add llms.txt, with links to the pages of the site."""
    Path(config.site_dir, "llms.txt").write_text(llms.text(llms.on_site), "utf-8")


def _recipes() -> str:
    """A page with all recipes, each under its name."""
    parts = ["# Recipes\n\nThe files of `recipes/`; `hrpose train recipes/NAME.yaml` runs one.\n"]
    for file in sorted((ROOT / "recipes").glob("*.yaml")):
        text = file.read_text("utf-8")
        parts.append(f"## {file.stem} {{ #{file.stem} }}\n\n```yaml\n{text}```\n")
    return "\n".join(parts)


def _named(nav: Any) -> Iterator[str]:
    """Every page that the navigation lists."""
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _named(entry)


def _filled(nav: list[Any], pages: list[str], named: set[str]) -> list[Any]:
    """The navigation with each `folder/*` expanded, without empty sections."""
    full: list[Any] = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("*"):
            folder = entry[:-1]
            full += [
                page
                for page in pages
                if page not in named and page.startswith(folder) and "/" not in page[len(folder) :]
            ]
        elif isinstance(entry, dict):
            ((title, part),) = entry.items()
            inside = _filled(part, pages, named) if isinstance(part, list) else part
            full += [{title: inside}] if inside else []
        else:
            full.append(entry)
    return full
