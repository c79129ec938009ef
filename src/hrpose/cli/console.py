"""What prints the tables."""

from rich.console import Console


def plain_console(width: int | None = None) -> Console:
    """A console that prints every text as it is: a file or a joint may be named `[/x]` or `:x:`,
    which Rich would take for its own marks.
    """
    return Console(width=width, markup=False, emoji=False)
