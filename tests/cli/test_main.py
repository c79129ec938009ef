"""The help of all commands, and the options and tables that they share."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import typer
from rich.table import Table
from typer.main import get_command
from typer.testing import CliRunner

import hrpose.cli.main
from hrpose import poses
from hrpose._version import __version__
from hrpose.cli import console, deploy, options
from hrpose.cli.console import plain_console
from hrpose.cli.main import app
from hrpose.cli.options import parse_input_size
from hrpose.errors import UserError
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

    def test_it_is_shown(
        self, path: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit, match=r"^0$"):
            ROOT([*path, "-h"], "hrpose")
        shown = capsys.readouterr().out
        assert f"Examples: hrpose {' '.join(path)}" in " ".join(shown.split())
        assert max(map(len, shown.splitlines())) <= 80
        for option in ("--quiet", "--json", "--verbose", "--help"):
            assert f" {option} " in shown

    def test_arguments_have_one_order(self, path: tuple[str, ...], command: Any) -> None:
        """Inputs are positional, outputs `--out`, data sets `--annotations --images`."""
        positional = {each.name for each in command.params if each.param_type_name == "argument"}
        options = {each.name: each for each in command.params if each.param_type_name == "option"}
        assert not positional & {"out", "output", "weights_out"}
        assert "annotations" not in positional or path[0] == "data"
        assert "images" not in positional or path == ("data", "rank")  # they are what it works on
        if "images" in options:
            assert {"annotations", "source", "train"} & (positional | options.keys())
        is_output = re.compile(r"(\w+ )?(file|folder)s? (to write|for )", re.IGNORECASE)
        written = {name for name, each in options.items() if is_output.match(each.help or "")}
        assert written <= {"out", "save"}
        for name, spelled in {"out": "--out", "images": "--images", "weights": "--weights"}.items():
            assert name not in options or options[name].opts == [spelled]

    @pytest.mark.parametrize("code", [0, 1, 2, 130, 143])
    def test_exit_codes_are_the_same(
        self,
        path: tuple[str, ...],
        command: Any,
        code: int,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Also in the JSON summary, which is all that the standard output gets."""
        endings = {
            0: typer.Exit(0), 1: typer.Exit(1), 2: UserError("x: expected y", code="x-invalid"),
            130: KeyboardInterrupt(), 143: SystemExit(143),
        }  # fmt: skip

        @contextmanager
        def ending(*arguments: Any) -> Iterator[None]:
            with console.speaking(*arguments):
                print("a line of results")
                raise endings[code]
            yield

        monkeypatch.setattr(hrpose.cli, "speaking", ending)
        monkeypatch.setattr(hrpose.cli.main, "app", ROOT)
        words = shlex.split(command.callback.examples[0].partition(" > ")[0])
        monkeypatch.setattr(sys, "argv", [*words, "--json"])
        with pytest.raises(SystemExit) as stopped:
            hrpose.cli.main.main()
        out, err = capsys.readouterr()
        assert int(stopped.value.code or 0) == code
        summary = json.loads(out)
        assert (summary["command"], summary["exit_code"]) == (" ".join(path), code)
        assert [each["code"] for each in summary["errors"]] == ["x-invalid"] * (code == 2)
        assert summary.keys() == console.COMMON_KEYS.keys()
        assert err.splitlines()[0] == "a line of results"

    def test_wrong_usage_is_2(
        self, path: tuple[str, ...], command: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match=r"^2$"):
            ROOT([*path, "--no-such-option", "--json"], "hrpose")
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", [(), ("data",), ("data", "convert"), ("weights",)], ids=" ".join)
def test_groups_have_examples(path: tuple[str, ...]) -> None:
    command = ROOT
    for name in path:
        command = command.commands[name]
    title, *lines = command.epilog.split("\n\n")
    assert title == "Examples:"
    assert len(lines) == 2
    for line in lines:
        with suppress(SystemExit, typer.Exit):  # -h
            inner, words = ROOT, shlex.split(line)[1:]
            while hasattr(inner, "commands"):
                inner, words = inner.commands[words[0]], words[1:]
            inner.make_context(line, words)


def test_the_help_of_all() -> None:
    done = CliRunner().invoke(app, ["-h"])
    assert "--install-completion" in done.output
    panels = re.findall(r"╭─ (\w+) ─", done.output)
    assert panels == ["Options", "Use", "Measure", "Train", "Data", "Weights"]


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version(option: str) -> None:
    done = CliRunner().invoke(app, [option])
    assert (done.exit_code, done.stdout) == (0, f"hrpose {__version__}\n")


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
