"""Every command in the documentation is one that exists, options and all; none is run here."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hrpose.cli.main import app
from hrpose.training.recipe import Recipe
from tools import command_line

from .pages import PAGES, ROOT, blocks, name

EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)
TARGETS = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
CLI: Any = get_command(app)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(place, words) of each command of the page's blocks."""
    for block in blocks(page):
        if block.language not in ("", "bash", "sh", "console"):
            continue
        text = re.sub(r"\\\n\s*", " ", block.text)
        for offset, line in enumerate(text.splitlines()):
            if not re.match(r"(\w+=\S+ )*(hrpose|uvx|make|pip|python -m|cd) ", line):
                continue
            words = shlex.split(line, comments=True)
            for part in _split(words):
                while re.match(r"[A-Z_]+=", part[0]):
                    part = part[1:]
                if part[0] == "uvx":  # it runs hrpose, by default from PyPI
                    part = part[part.index("hrpose") :]
                yield f"{name(page)}:{block.line + offset}", part


def _split(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word in ("&&", "|", ";", "&", ">"):
            yield part
            part = []
        else:
            part.append(word)
    if part:
        yield part


def parse(words: list[str]) -> None:
    """Read the words of one `hrpose ...` as the command line does. Raises what it raises."""
    command, context, rest = CLI, None, words[1:]
    while hasattr(command, "commands"):
        if rest and rest[0].startswith("-"):
            command.make_context("hrpose", rest, resilient_parsing=True)
            return
        context = command.context_class(command, parent=context, info_name="hrpose")
        command = command.commands[rest[0]]
        rest = rest[1:]
    command.make_context("hrpose", list(rest), parent=context)


def check(words: list[str]) -> None:
    tool, rest = words[0], words[1:]
    if tool == "hrpose":
        parse(words)
        for option, value in pairwise(words):
            if option == "--set" and "train-detector" not in words:
                assert recipe_has(value.partition("=")[0]), f"--set {value}: no such key"
        for word in rest:
            if re.match(r"(recipes|examples)/\w", word):
                assert list(ROOT.glob(word.rstrip("/"))), f"{word}: no such file"
    elif tool == "make":
        goals = [word for word in rest if "=" not in word]
        assert set(goals) <= TARGETS, f"make: no such target among {goals}"
    elif tool == "python" and rest[0] == "-m":
        path = ROOT / rest[1].replace(".", "/")
        ours = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert ours or find_spec(rest[1].partition(".")[0]), f"{rest[1]}: no such module"
    elif tool == "pip":
        for extras in re.findall(r"(?:hrpose|\.)\[([\w,]+)\]", " ".join(rest)):
            assert set(extras.split(",")) <= EXTRAS, f"pip install: no extra {extras}"


def recipe_has(key: str) -> bool:
    model: Any = Recipe
    for part in key.split("."):
        fields = getattr(model, "model_fields", None)
        if fields is None:
            return True
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    for place, words in commands(page):
        try:
            check(words)
        except Exception as error:
            pytest.fail(f"{place}: {shlex.join(words)}: {error!r}")


def test_the_keys_of_json_summaries_are_documented() -> None:
    text = command_line.PAGE.read_text("utf-8")
    assert text == command_line.with_keys(text), "run python -m tools.command_line"


GUIDES = [
    page for folder in ("guide", "zh") for page in (ROOT / "docs" / folder).glob("coming-from*.md")
]


def becomes(guide: Path) -> list[str]:
    """The code words in the right columns of its tables."""
    rows = re.findall(r"(?m)^\|.+\|([^|]+)\|$", guide.read_text(encoding="utf-8"))
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_keys_that_others_keys_become_exist(guide: Path) -> None:
    """Recipe keys of "coming from"."""
    words = becomes(guide)
    found = [re.fullmatch(r"([a-z]+\.[a-z_]+)(: \w+|=[\w.-]+)?", word) for word in words]
    keys = [match[1] for match in found if match]
    keys = [key for key in keys if key.partition(".")[0] in Recipe.model_fields]
    assert len(keys) > (15 if "-" in guide.stem.removeprefix("coming-from") else 0)
    assert [key for key in keys if not recipe_has(key)] == []


@pytest.mark.parametrize("guide", GUIDES, ids=name)
def test_commands_that_others_commands_become_exist(guide: Path) -> None:
    commands = [word for word in becomes(guide) if word.startswith("hrpose ")]
    assert len(commands) > 4
    for command in commands:
        if "..." not in command:
            words = shlex.split(command)
            if not is_name(words[1:]):
                check(words)


def is_name(words: list[str]) -> bool:
    """Whether the words are no more than the name of a command, such as `weights convert`."""
    command: Any = CLI
    for word in words:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


@pytest.mark.parametrize(
    "line",
    ["hrpose predikt a.jpg", "hrpose predict a.jpg --owt x", "hrpose train", "make coffee",
     "hrpose train recipes/none.yaml --data d", "pip install 'hrpose[trian]'",
     "hrpose train recipes/synthetic.yaml --data d --set optimizer.rate=1"],
)  # fmt: skip
def test_wrong_commands_are_noticed(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        check(shlex.split(line))


def test_commands_are_found() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 80
