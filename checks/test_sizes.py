"""The package stays small enough to be read: docs/architecture.md has these limits."""

from pathlib import Path

from .pages import ROOT

FILES, LINES = 168, 450
SOURCES = sorted((ROOT / "src" / "hrpose").rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def test_the_package_has_few_files() -> None:
    assert len([path for path in SOURCES if path.name != "__init__.py"]) <= FILES


def test_no_file_is_long() -> None:
    assert {path.name: lines(path) for path in SOURCES if lines(path) > LINES} == {}
