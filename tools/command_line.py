"""The reference of the command line, generated from the commands."""

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from hrpose.cli.main import app


def page() -> str:
    """Markdown: a section for each command, with its arguments and options."""
    parts = ["# Command line\n\nMade from the help of each command (`hrpose COMMAND --help`).\n"]
    parts += [_section(command, context) for command, context in commands()]
    return "\n".join(parts)


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
    """`--out DIR` as it is, but `--weights` of `--weights <str>`: the text says what it takes."""
    return re.sub(r" <(str|path|bool|int|float|(int|float) range|list\[\w+\])>", "", name)
