"""Options that several commands share: what they take, and what their help says."""

from typing import Any

import pytest
import typer

from hrpose import poses
from hrpose.cli import options
from hrpose.cli.main import app
from hrpose.cli.options import parse_input_size
from hrpose.errors import UserError


@pytest.mark.parametrize(("text", "expected"), [("192x256", (192, 256)), ("4096X32", (4096, 32))])
def test_an_input_size(text: str, expected: tuple[int, int]) -> None:
    assert parse_input_size(text) == expected


@pytest.mark.parametrize("text", ["190x256", "192", "0x32", "4128x32", "-32x32", "axb"])
def test_a_wrong_input_size_is_told_the_bounds(text: str) -> None:
    with pytest.raises(UserError, match=f"--input-size {text}: .* multiples of 32 up to 4096"):
        parse_input_size(text)


def test_a_keypoint_is_shown_from_the_same_score_on_everywhere() -> None:
    assert options.THRESHOLD == poses.THRESHOLD


def help_of(*words: str) -> dict[str, str]:
    """What the help says to each option of a command."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {each.name or "": getattr(each, "help", None) or "" for each in command.params}


@pytest.mark.parametrize("tool", ["to-cvat", "to-label-studio"])
def test_the_help_tells_a_copy_for_a_tool_from_a_link(tool: str) -> None:
    for_tool, for_training = help_of("data", "convert", tool), help_of("data", "convert", "to-yolo")
    assert for_tool["images"].endswith("used with --copy.")
    assert "link" not in for_tool["copy"]
    assert "link" in for_training["copy"]


@pytest.mark.parametrize("words", [("analyze",), ("data", "check")])
def test_options_that_need_weights_say_so(words: tuple[str, ...]) -> None:
    said = help_of(*words)
    assert said["flip_test"].startswith("With --weights: ")
    assert said["batch_size"].startswith("With --weights: ")
