"""`hrpose` on the command line: how commands are declared, and how they read what was given."""

import errno
import inspect
import os
import tempfile
from collections.abc import Callable, Collection, Sequence
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperGroup
from typer.models import OptionInfo

from hrpose._version import __version__
from hrpose.cli.console import speaking
from hrpose.errors import UserError
from hrpose.io import write_error

_OUTPUT_PANEL = "Output"
# What every command has.
_OUTPUT: dict[str, Any] = {
    "quiet": Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_OUTPUT_PANEL),
    ],
    "as_json": Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON document on the standard output, and messages on the error "
            "stream.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ],
    "verbose": Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Print what was chosen, logs, all rows of tables, and tracebacks of errors.",
            rich_help_panel=_OUTPUT_PANEL,
        ),
    ],
}


def describe(*examples: str, **keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the examples of a command's help, and the keys of its JSON summary.

    `checks` parse the examples. Every command also has the keys of `console.COMMON_KEYS`.
    """

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        function.__dict__.update(examples=examples, keys=keys)
        return function

    return declare


def _epilog(examples: Sequence[str]) -> str:
    return "\n\n".join(("Examples:", *(f"  {line}" for line in examples)))


_HELP = {"help_option_names": ["-h", "--help"]}


def group(text: str, *examples: str, kind: type[TyperGroup] | None = None) -> typer.Typer:
    """A group of commands with examples in its help; alone, it prints its help."""
    return typer.Typer(
        epilog=_epilog(examples),
        cls=kind,
        help=text,
        no_args_is_help=True,
        context_settings=_HELP,
        pretty_exceptions_enable=False,
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hrpose {__version__}")
        raise typer.Exit


def version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            metavar="",
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """The options of `hrpose` itself, before the command."""


def add(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    *,
    panel: str | None = None,
    text: str | None = None,
) -> None:
    """Add the command of this full name, such as "data check", with --quiet, --json and --verbose.

    `text` is its help, where the function has no docstring.
    """
    examples: Sequence[str] = function.__dict__["examples"]
    keys: dict[str, str] = function.__dict__["keys"]

    @wraps(function)
    def run(*, quiet: bool, as_json: bool, verbose: bool, **arguments: Any) -> None:
        with speaking(name, keys, quiet, as_json, verbose, arguments):
            function(**arguments)

    own = inspect.signature(function)
    parameters = [
        *(each.replace(annotation=_short(each.annotation)) for each in own.parameters.values()),
        *(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_short(kind)
            )
            for name, kind in _OUTPUT.items()
        ),
    ]
    run.__dict__["__signature__"] = own.replace(parameters=parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    text = inspect.cleandoc(text or function.__doc__ or "")
    text = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
    epilog = _epilog(examples)
    app.command(
        name.split()[-1], help=text, epilog=epilog, rich_help_panel=panel, context_settings=_HELP
    )(run)


_METAVARS = {bool: "", int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _short(annotation: Any) -> Any:
    """The annotation of a parameter with a short word for its kind in the help."""
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, option = get_args(annotation)
    if not isinstance(option, OptionInfo) or option.metavar is not None:
        return annotation
    kinds = [k for k in _METAVARS if k is kind or k in _inside(kind)]
    if not kinds:
        return annotation
    option = copy(option)
    option.metavar = _METAVARS[kinds[0]]
    return Annotated[kind, option]


def _inside(kind: Any) -> set[Any]:
    """The types in `X | None` and `list[X] | None`."""
    return {each for part in get_args(kind) for each in (part, *get_args(part))}


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter, on the command line or by an environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def refuse_with(context: typer.Context, option: str, *names: str) -> None:
    """Raises UserError for a parameter that the user gave, and that has no effect with `option`."""
    for name in names:
        if given(context, name):
            raise conflict(f"--{name.replace('_', '-')}: has no effect with {option}")


def chosen(option: str, words: str, known: Collection[str]) -> frozenset[str]:
    """The words, between commas, of an option's value. Raises UserError for unknown ones."""
    found = frozenset(word.strip() for word in words.split(",") if word.strip())
    if unknown := found - set(known):
        raise UserError(
            f"{option}: expected some of {', '.join(known)} with commas between, found "
            f"'{', '.join(sorted(unknown))}'",
            code="option-invalid",
        )
    return found


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """The names before and after the = of an option's values. Raises UserError for others."""
    found = {}
    for text in given or ():
        old, equals, new = text.rpartition("=")
        if not equals or not old or not new:
            raise UserError(
                f"{option} {text}: expected two names with = between them", code="option-invalid"
            )
        found[old] = new
    return found


def conflict(message: str) -> UserError:
    """The error of options that do not go together, or have no effect."""
    return UserError(message, code="option-conflict")


def check_writable(path: Path) -> None:
    """Raises UserError where the file `path` cannot be written, before work that would be lost."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise write_error(path, error) from error
