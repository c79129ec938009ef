"""llms.txt: the documentation as a list of links that fits into a language model's context.

    python -m tools.llms    write llms.txt

The form is that of https://llmstxt.org: a title, a summary, and sections of links. Sections and
order are those of the site's menu in mkdocs.yml, titles and descriptions the pages' own.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "llms.txt"
# Pages of the menu whose text is elsewhere in the repository; those of the site alone are left out.
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/RESULTS.md",
    "benchmarks-tracking.md": "benchmarks/TRACKING.md",
    "benchmarks-server.md": "benchmarks/SERVER.md",
    "benchmarks-site.md": "benchmarks/SITE.md",
    "examples.md": "examples/README.md",
}
SITE_ONLY = {"recipes.md", "reference/cli.md"}
# What can be left out first, by the convention's name.
OPTIONAL = ("decisions/", "models/history/", "benchmarks")
NOTES = """
- `pip install hrpose`, or `uvx hrpose predict photo.jpg`; the base install needs no PyTorch
- `hrpose COMMAND --help` has every option, `--json` a summary for programs
- `poses = hrpose.load()("photo.jpg")`: `poses.keypoints` is (persons, 17, 3), x and y in pixels
  and a score in [0, 1]; `poses.boxes` is (persons, 4) [x, y, width, height]
- errors are `hrpose.UserError` with a `code`
"""


class _Loader(yaml.SafeLoader):
    """YAML of MkDocs, whose tags name functions of Python."""


_Loader.add_multi_constructor("", lambda *_: None)


def text(link: Callable[[str], str] = lambda page: source(page)) -> str:
    """The file, in which `link` is the address of a page of the menu."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    menu = yaml.load((ROOT / "mkdocs.yml").read_text("utf-8"), _Loader)["nav"]
    named = set(_pages(menu))
    sections: dict[str, list[str]] = {}
    for entry in menu:
        ((section, part),) = entry.items()
        for page in _expanded(part, named):
            if page not in SITE_ONLY:
                title = "Start" if isinstance(part, str) else section
                title = "Optional" if page.startswith(OPTIONAL) else title
                sections.setdefault(title, []).append(_line(page, link(page)))
    sections["Optional"] = sections.pop("Optional")  # comes last
    parts = [f"# {project['name']}", f"> {project['description']}", NOTES.strip()]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items()]
    return "\n\n".join(parts) + "\n"


def source(page: str) -> str:
    """The file of a page, in the repository."""
    return ELSEWHERE.get(page, f"docs/{page}")


def on_site(page: str) -> str:
    """The file of a page, in the site."""
    return page.removesuffix(".md") + ".html"


def _pages(part: Any) -> Iterator[str]:
    for entry in part if isinstance(part, list) else part.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _pages(entry)


def _expanded(part: Any, named: set[str]) -> Iterator[str]:
    """The pages of a part of the menu; `folder/*` are those of a folder that are not listed."""
    for page in [part] if isinstance(part, str) else _pages(part):
        if not page.endswith("*"):
            yield page
            continue
        folder = ROOT / "docs" / page[:-1]
        for file in sorted(folder.glob("*.md")):
            if (name := file.relative_to(ROOT / "docs").as_posix()) not in named:
                yield name


def _line(page: str, link: str) -> str:
    """A link with the page's title and its first sentence."""
    content = (ROOT / source(page)).read_text("utf-8")
    title = re.search(r"(?m)^# (.+)$", content)
    assert title is not None, f"{page}: has no title"
    begin = content[title.end() :].partition("\n## ")[0]
    blocks = re.sub(r"(?ms)^```.*?^```$", "", begin).split("\n\n")
    written = [block.strip("\n") for block in blocks if block.strip()]
    # Not tables, lists, code, or a link to the other language.
    other = re.compile(r"[#|!<>*\-:]| {4}|\d+\.|\[[^\]]*\]\([^)]*\)$")
    prose = next((" ".join(b.split()) for b in written if not other.match(b)), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", prose)
    sentence = re.split(r"[.:](?:\s|$)|[\u3002\uff1a]", plain, maxsplit=1)[0]
    return f"- [{title[1].replace('`', '')}]({link})" + (f": {sentence}" if sentence else "")


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
    sys.exit(0)
