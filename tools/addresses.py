"""Write the repository's address where others look for it: badges, Colab links, package metadata.

    python -m tools.addresses OWNER/NAME    on GitHub

Nothing in the repository needs the address, so none is in it until this was run once. It can be run
again, with another address too.
"""

import re
import sys
from pathlib import Path

import nbformat

from tools import languages

ROOT = Path(__file__).resolve().parents[1]
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
# What was written before, in each kind of file.
_BADGES = re.compile(r"\n<!-- badges -->\n.*?<!-- /badges -->\n", re.DOTALL)
_URLS = re.compile(r"\[project\.urls\]\n(?:\w+ = .*\n)+\n")
_CODE = re.compile(r"repository-code: .*\n")
_COLAB, _SETUP = "colab-link", "colab-setup"


def write(repository: str, root: Path = ROOT) -> list[Path]:
    """Write the address of `repository`, "owner/name"; returns the files that changed."""
    if not _REPOSITORY.fullmatch(repository):
        raise SystemExit(f"expected OWNER/NAME, found {repository}")
    pages = {
        root / name: with_badges((root / name).read_text("utf-8"), repository)
        for name in ("README.md", "README.zh-CN.md")
    }
    project, citation = root / "pyproject.toml", root / "CITATION.cff"
    pages[project] = with_urls(project.read_text("utf-8"), repository)
    pages[citation] = with_code(citation.read_text("utf-8"), repository)
    for path in notebooks(root):
        pages[path] = with_colab(path, repository, root)
    changed = [path for path, text in pages.items() if path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(pages[path], "utf-8")
    return changed


def notebooks(root: Path = ROOT) -> list[Path]:
    """The notebooks of the examples."""
    return sorted((root / "examples" / "notebooks").glob("*.ipynb"))


def colab(path: Path, repository: str, root: Path = ROOT) -> str:
    """A badge that opens a notebook in Colab."""
    name = path.relative_to(root).as_posix()
    address = f"https://colab.research.google.com/github/{repository}/blob/main/{name}"
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({badge})]({address})"


def with_badges(text: str, repository: str) -> str:
    """The README with badges below its title."""
    home, shields = f"https://github.com/{repository}", "https://img.shields.io/pypi"
    actions = f"{home}/actions"
    badges = [
        f"[![PyPI]({shields}/v/hrpose)]({home}/releases)",
        f"[![Python]({shields}/pyversions/hrpose)]({home}/releases)",
        f"[![Tests]({actions}/workflows/check.yml/badge.svg)]({actions}/workflows/check.yml)",
        "[![Apache-2.0](https://img.shields.io/badge/license-Apache--2.0-blue)](LICENSE)",
        colab(notebooks()[0], repository),
    ]
    title, _, rest = _BADGES.sub("", text).partition("\n")
    return f"{title}\n\n<!-- badges -->\n" + "\n".join(badges) + f"\n<!-- /badges -->\n{rest}"


def with_urls(text: str, repository: str) -> str:
    """pyproject.toml with the addresses that PyPI shows beside the package."""
    home = f"https://github.com/{repository}"
    urls = {
        "Repository": home,
        "Documentation": f"{home}/blob/main/docs/index.md",
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    scripts = "[project.scripts]\n"
    return _URLS.sub("", text).replace(scripts, f"[project.urls]\n{lines}\n{scripts}", 1)


def with_code(text: str, repository: str) -> str:
    """CITATION.cff with the repository."""
    license = "license: Apache-2.0\n"
    line = f"repository-code: https://github.com/{repository}\n"
    return _CODE.sub("", text).replace(license, f"{license}{line}", 1)


def with_colab(path: Path, repository: str, root: Path = ROOT) -> str:
    """The notebook with its badge, and a cell that gets hrpose and the examples in Colab alone."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.id not in (_COLAB, _SETUP)]
    folder = path.parent.relative_to(root).as_posix()
    setup = (
        "import sys\n\n"
        'if "google.colab" in sys.modules:\n'
        f"    !git clone --quiet --depth 1 https://github.com/{repository} hrpose-repository\n"
        '    !pip install --quiet "./hrpose-repository[train,tables]"\n'
        f"    %cd hrpose-repository/{folder}"
    )
    notebook.cells = [
        nbformat.v4.new_markdown_cell(colab(path, repository, root), id=_COLAB),
        nbformat.v4.new_code_cell(setup, id=_SETUP),
        *cells,
    ]
    return str(nbformat.writes(notebook)) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(str(__doc__))
    print(*write(sys.argv[1]), sep="\n")
    sys.argv = ["languages", "--reviewed"]
    sys.exit(languages.main())
