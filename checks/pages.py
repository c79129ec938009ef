"""The repository's Markdown, as the tests of the documentation read it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "benchmarks" / "RESULTS.md",
    ]
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language ("" where it says none), text, and first line's number."""

    page: Path
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks, and indented ones, which are commands where they start with one."""
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        start = at
        if fence := re.match(r"( *)```(\w*)", lines[at]):
            at += 1
            while not re.match(rf"{fence[1]}```\s*$", lines[at]):
                at += 1
            inside = [line[len(fence[1]) :] for line in lines[start + 1 : at]]
            yield Block(page, fence[2], "\n".join(inside), start + 2)
        elif re.match(r" {4}\S", lines[at]) and (at == 0 or not lines[at - 1].strip()):
            while at + 1 < len(lines) and (lines[at + 1][:4].strip() == ""):
                at += 1
            inside = [line.strip() for line in lines[start : at + 1]]
            yield Block(page, "", "\n".join(inside), start + 1)
        at += 1


def prose(page: Path) -> str:
    """The page without its fenced blocks and code words."""
    text = re.sub(r"(?ms)^ *```.*?^ *```\s*$", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "`code`", text)
