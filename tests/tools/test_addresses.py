"""The repository's address in badges, Colab links and metadata: written once, and again."""

import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
from tools import addresses  # noqa: E402


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files that have an address, copied."""
    for name in ("README.md", "README.zh-CN.md", "pyproject.toml", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "examples" / "notebooks", tmp_path / "examples" / "notebooks")
    return tmp_path


def test_the_address_is_written_everywhere(root: Path) -> None:
    assert len(addresses.write("someone/fork", root)) == 4 + len(addresses.notebooks(root))
    for page in ("README.md", "README.zh-CN.md"):
        title = (root / page).read_text("utf-8").partition("\n")[0]
        assert title == "# hrpose"
        text = (root / page).read_text("utf-8")
        assert text.count("github.com/someone/fork/actions/workflows/check.yml/badge.svg") == 1
        assert text.count("colab.research.google.com/github/someone/fork/blob/main/examples/") == 1
    urls = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert urls["Repository"] == "https://github.com/someone/fork"
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    assert citation["repository-code"] == "https://github.com/someone/fork"


def test_notebooks_get_what_they_need_in_colab_alone(root: Path) -> None:
    before = {path: nbformat.read(path, 4).cells for path in addresses.notebooks(root)}
    addresses.write("someone/fork", root)
    for path, cells in before.items():
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        badge, setup, *rest = notebook.cells
        assert f"/blob/main/examples/notebooks/{path.name})" in badge.source
        assert "git clone --quiet --depth 1 https://github.com/someone/fork " in setup.source
        assert [cell.source for cell in rest] == [cell.source for cell in cells]
        plain = setup.source.replace("    !", "    # ").replace("    %", "    pass # ")
        exec(plain, {})  # nothing happens here


def test_writing_again_changes_nothing_and_another_address_all(root: Path) -> None:
    first = addresses.write("someone/fork", root)
    assert addresses.write("someone/fork", root) == []
    texts = {path: path.read_text("utf-8") for path in first}
    addresses.write("other/name", root)
    for path, text in texts.items():
        assert path.read_text("utf-8") == text.replace("someone/fork", "other/name")
    for wrong in ("name", "https://github.com/a/b", "a/b c"):
        with pytest.raises(SystemExit, match="OWNER/NAME"):
            addresses.write(wrong, root)
