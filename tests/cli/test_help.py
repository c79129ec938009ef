"""The help of every command: examples that parse, words for every option, no import of the work."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hrpose.cli.main import app

ROOT: Any = get_command(app)


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = list(commands(ROOT))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
class TestHelp:
    def test_examples_parse(self, path: tuple[str, ...], command: Any) -> None:
        title, *lines = command.epilog.split("\n\n")
        assert title == "Examples:"
        assert lines
        for line in lines:
            words = shlex.split(line)
            assert words[: len(path) + 1] == ["hrpose", *path]
            command.make_context(line, words[len(path) + 1 :])

    def test_every_parameter_has_a_sentence(self, path: tuple[str, ...], command: Any) -> None:
        assert command.help.strip()
        silent = [each.name for each in command.params if not getattr(each, "help", None)]
        assert silent in ([], ["help"])

    def test_it_is_shown(self, path: tuple[str, ...], command: Any) -> None:
        done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "120"})
        assert done.exit_code == 0, done.output
        assert f"Examples: hrpose {' '.join(path)}" in " ".join(done.output.split())


def test_completion_can_be_installed() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert "--install-completion" in done.output
