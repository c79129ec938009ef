"""The help of all commands, and the options and tables that they share."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from rich.table import Table
from typer.main import get_command
from typer.testing import CliRunner

from hrpose import poses
from hrpose.cli import deploy, options
from hrpose.cli.console import plain_console
from hrpose.cli.main import app
from hrpose.cli.options import parse_input_size
from hrpose.image import MAX_BYTES, MAX_PIXELS
from refusals import refused

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
        assert len(set(lines)) == len(lines) >= 2
        for line in lines:
            words = shlex.split(line.partition(" > ")[0])
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


@pytest.mark.parametrize(("text", "expected"), [("192x256", (192, 256)), ("4096X32", (4096, 32))])
def test_an_input_size(text: str, expected: tuple[int, int]) -> None:
    assert parse_input_size(text) == expected


@pytest.mark.parametrize("text", ["190x256", "192", "0x32", "4128x32", "-32x32", "axb"])
def test_a_wrong_input_size(text: str) -> None:
    with refused("option-invalid", f"--input-size {text}", "32", "4096"):
        parse_input_size(text)


def test_copies_of_constants_that_take_long_to_import() -> None:
    assert options.THRESHOLD == poses.THRESHOLD
    assert deploy.MAX_MEGABYTES == MAX_BYTES / 1e6
    assert deploy.MAX_MEGAPIXELS == MAX_PIXELS / 1e6


def help_of(*path: str) -> dict[str, str]:
    """The help of each option of a command."""
    (command,) = (command for known, command in COMMANDS if known == path)
    return {each.name or "": getattr(each, "help", None) or "" for each in command.params}


@pytest.mark.parametrize("tool", ["to-cvat", "to-label-studio"])
def test_the_help_distinguishes_copies_from_links(tool: str) -> None:
    for_tool, for_training = help_of("data", "convert", tool), help_of("data", "convert", "to-yolo")
    assert for_tool["images"].endswith("used with --copy.")
    assert "link" not in for_tool["copy"]
    assert "link" in for_training["copy"]


@pytest.mark.parametrize("path", [("analyze",), ("data", "check")])
def test_the_help_names_options_that_need_weights(path: tuple[str, ...]) -> None:
    found = help_of(*path)
    assert found["flip_test"].startswith("With --weights: ")
    assert found["batch_size"].startswith("With --weights: ")


def test_tables_print_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[/x]", title="[bold]")
    table.add_row("[red]", ":smile:")
    plain_console(60).print(table)
    output = capsys.readouterr().out
    assert all(text in output for text in ("[/x]", "[bold]", "[red]", ":smile:"))
