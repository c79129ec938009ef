"""The reference of the command line, generated from the commands.

    python -m tools.command_line    write the keys of the JSON summaries into docs/reference

The page of all options is made while the site is built, by `tools.hooks`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from hrpose.cli.console import COMMON_KEYS
from hrpose.cli.main import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "command-line.md"
_MARK = "<!-- The rest is written by `python -m tools.command_line`. -->\n"


def page() -> str:
    """Markdown: a section for each command, with its arguments and options."""
    parts = ["# All options\n\nMade from the help of each command (`hrpose COMMAND -h`).\n"]
    parts += [_section(command, context) for command, context in commands()]
    return "\n".join(parts)


def with_keys(text: str) -> str:
    """The page of the command line with the keys of all summaries behind its mark."""
    parts = [
        f"{text.partition(_MARK)[0]}{_MARK}",
        "### Keys of all commands\n",
        *_rows(COMMON_KEYS),
    ]
    seen: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for command, context in commands():
        keys = tuple(command.callback.keys.items())
        seen.setdefault(keys, []).append(context.command_path.removeprefix("hrpose "))
    for each, names in seen.items():
        parts += [f"\n### {', '.join(f'`{name}`' for name in names)}\n", *_rows(dict(each))]
    return "\n".join([*parts, ""])


def _rows(keys: dict[str, str]) -> list[str]:
    return ["| key | |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in keys.items())]


def commands() -> Iterator[tuple[Any, Any]]:
    """Every command, with its context, in the order of the help."""
    # Typer has its own copy of click, whose classes have no public names.
    root: Any = get_command(app)
    yield from _below(root, root.context_class(root, info_name="hrpose"))


def _below(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    for name, command in group.commands.items():
        inside = command.context_class(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _below(command, inside)
        else:
            yield command, inside


def _section(command: Any, context: Any) -> str:
    help_text = " ".join((command.help or "").replace("\f", " ").split())
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [
        f"## {context.command_path}",
        "",
        help_text,
        "",
        "```text",
        " ".join(usage.split()),
        "```",
        "",
        "```sh",
        *(line.strip() for line in (command.epilog or "").split("\n\n")[1:]),
        "```",
        "",
        '<div class="options" markdown>',
        "",
    ]
    for panel, entries in _panels(command, context).items():
        lines += [f"**{panel}**", ""]
        for name, text in entries:
            lines += [f"`{name}`", f":   {text}", ""]
    return "\n".join([*lines, "</div>", ""])


def _panels(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """The (name, help) of each argument and option, by the panel of the help that has it."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        name, text = (" ".join(part.split()) for part in record)
        usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
        panel = getattr(parameter, "rich_help_panel", None) or usual
        panels.setdefault(panel, []).append((_without_type(name), text))
    return panels


def _without_type(name: str) -> str:
    """`--out DIR` as it is, but `--weights` of `--weights TEXT`: the text says what it takes."""
    return re.sub(r" (<list\[\w+\]>|TEXT|PATH|N|X)$", "", name).strip()


if __name__ == "__main__":
    PAGE.write_text(with_keys(PAGE.read_text("utf-8")), "utf-8")
