"""Compare the Chinese pages with the English ones, as far as a program can.

    python -m tools.languages               list the pages to review
    python -m tools.languages --reviewed    record that the Chinese pages were reviewed

A Chinese page has the same headings, tables, links and code blocks as its English one (comments in
code may be translated), and its last line has the hash of the English text that it translates.
Pages that exist in Chinese only are not compared; the checks read their commands, links and YAML.
"""

import hashlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {
    "README.md": "README.zh-CN.md",
    "docs/index.md": "docs/zh/index.md",
    "docs/how-it-works.md": "docs/zh/how-it-works.md",
    "docs/guide/coming-from-official.md": "docs/zh/coming-from-official.md",
    "docs/guide/coming-from-tutorial.md": "docs/zh/coming-from-tutorial.md",
}
MARK = re.compile(r"\n<!-- for the English text (\w+) -->\n$")
REVIEWED = "`python -m tools.languages --reviewed` records the review"


def fingerprint(text: str) -> str:
    """A short hash of a text, whatever its line breaks."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def shape(text: str) -> dict[str, list[str]]:
    """The parts of a page that must be the same in both languages."""
    fences = re.findall(r"(?ms)^```(\w*)\n(.*?)^```", text)
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    indented = re.findall(r"(?m)^ {4}\S.*$", prose)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return {
        "headings": re.findall(r"(?m)^(#+) ", prose),
        "code": [language + "\n" + _without_comments(code) for language, code in fences]
        + [_without_comments(line) for line in indented],
        "rows of tables": re.findall(r"(?m)^(\|)", prose),
        # Links between the languages differ.
        "links and images": sorted({Path(target.partition("#")[0]).name for target in targets}
                                     - set(LANGUAGE_LINKS)),
    }  # fmt: skip


# Chinese pages that are written for their readers, not translated, and what only they link to.
OWN = ("command-line.md", "own-data.md", "coming-from.md", "glossary.md")
LANGUAGE_LINKS = {Path(page).name for pair in PAIRS.items() for page in pair} | set(OWN)


def _without_comments(code: str) -> str:
    lines = (re.sub(r"\s*#.*$", "", line) for line in code.splitlines())
    return "\n".join(line for line in lines if line)


def faults(english: str, chinese: str, names: tuple[str, str]) -> list[str]:
    """One line for each difference between the Chinese page and the English one."""
    found = []
    mark = MARK.search(chinese)
    ours, theirs = shape(chinese), shape(english)
    for part, wanted in theirs.items():
        if ours[part] != wanted:
            lacks = [item for item in wanted if item not in ours[part]]
            extra = [item for item in ours[part] if item not in wanted]
            found.append(
                f"{names[1]}: {part} differ from {names[0]}: expected {len(wanted)}, found "
                f"{len(ours[part])}; missing {lacks}, not in English {extra}"
            )
    if mark is None or mark[1] != fingerprint(english):
        found.append(
            f"{names[1]}: {names[0]} has changed since; update the Chinese text, then {REVIEWED}"
        )
    return found


def all_faults() -> list[str]:
    """The differences of all pairs."""
    return [
        fault
        for pair in PAIRS.items()
        for fault in faults(*((ROOT / page).read_text("utf-8") for page in pair), pair)
    ]


def main() -> int:
    """Print the pages to review; with `--reviewed`, record the review first. 1 if any is left."""
    if "--reviewed" in sys.argv[1:]:
        for english, chinese in PAIRS.items():
            text = MARK.sub("", (ROOT / chinese).read_text("utf-8")).rstrip() + "\n"
            mark = fingerprint((ROOT / english).read_text("utf-8"))
            (ROOT / chinese).write_text(f"{text}\n<!-- for the English text {mark} -->\n", "utf-8")
    left = all_faults()
    print("\n".join(left) or "The Chinese pages are up to date.")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
