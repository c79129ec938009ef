"""The documentation names what exists (modules, files, codes), in the vocabulary of the field."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.quality.labels import KINDS

from .pages import PAGES, ROOT, name, prose

SOURCE = "\n".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
# What was, keeps its names.
CURRENT = [page for page in PAGES if "history" not in page.parts]
PLACES = ("", "src/", "src/hrpose/", "docs/")
# Files of which the documentation says that a command writes them, and keys of metadata.
WRITTEN = {"hrpose.zip", *Metadata.keys, *DetectorMetadata.keys}


# Nouns that were invented here once; a reader of the field would not know them.
INVENTED = re.compile(
    r"\b(passport|finder|doctor|ahead|lies|whole picture|floors?|rooms?|walks?|licence|colours?|"
    r"centres?|joints?|pictures?)\b",
    re.IGNORECASE,
)


def current(page: Path) -> str:
    """The page; of the tables with a column `before`, only the other column."""
    text = page.read_text("utf-8")
    if page.name == "CHANGELOG.md":
        text = re.sub(r"(?m)^\| .*? \| (?=.*\|$)", "| ", text)
    return text


@cache
def exists(dotted: str) -> bool:
    """Whether it is a module, or an attribute of one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, part):
                return part in fields
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_modules_exist(page: Path) -> None:
    named = set(re.findall(r"(?<![\w/.-])hrpose(?:\.[A-Za-z_]\w*)+", current(page))) - WRITTEN
    assert sorted(dotted for dotted in named if not exists(dotted)) == []


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_files_exist(page: Path) -> None:
    words = re.findall(r"`([\w./-]+/[\w.-]*\.(?:py|md|yaml|toml|onnx|css|js))`", current(page))
    words += re.findall(r"`((?:tests|tools|checks|src|hrpose)/[\w./-]*)`", current(page))
    words = [word for word in words if not word.startswith("scripts/")]  # of simple-HRNet
    gone = [word for word in words if not any((ROOT / p / word).exists() for p in PLACES)]
    assert gone == []


def test_the_architecture_has_a_line_for_each_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    layers = page.partition("## Four layers")[2].partition("## Where to change what")
    package = ROOT / "src" / "hrpose"
    modules = {
        file.relative_to(package).with_suffix("").as_posix() for file in package.rglob("*.py")
    }
    modules = {module for module in modules if not module.endswith("__init__")}
    assert set(re.findall(r"(?m)^\| `([\w/]+)` \|", layers[0])) == modules
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*)`", layers[2].partition("## Design principles")[0])
    packages = {module.partition("/")[0] for module in modules}
    assert [word for word in named if word not in modules | packages | {"rescore"}] == []


def test_error_codes_are_listed() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    own, _, of_server = page.partition("## Codes of the server")
    row = r"(?m)^\| `([a-z0-9_-]+)` \|"
    assert set(re.findall(row, own)) == set(re.findall(r'\bcode="([a-z0-9-]+)"', SOURCE))
    files = (ROOT / "src" / "hrpose" / "serve").glob("*.py")
    serve = "".join(file.read_text("utf-8") for file in files)
    sent = re.findall(r'\b(?:Refusal|_refuse|_problem)\(\s*\d{3},\s*"([a-z_]+)"', serve)
    sent += re.findall(r'"(not_[a-z]+)"', serve)  # one of two
    assert sorted(re.findall(row, of_server)) == sorted(set(sent))


def test_findings_are_listed() -> None:
    page = (ROOT / "docs" / "guide" / "check-data.md").read_text("utf-8")
    rows = re.findall(r"(?m)^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", page)
    assert {word for row in rows for word in re.findall(r"[a-z-]+", row)} == set(KINDS)


@pytest.mark.parametrize("page", CURRENT, ids=name)
def test_words_are_those_of_the_field(page: Path) -> None:
    assert INVENTED.findall(prose(page)) == []
