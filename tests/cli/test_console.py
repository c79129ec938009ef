"""Tables with names that strangers gave."""

import pytest
from rich.table import Table

from hrpose.cli.console import plain_console


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[/x]", title="[bold]")
    table.add_row("[red]", ":smile:")
    plain_console(60).print(table)
    said = capsys.readouterr().out
    assert all(text in said for text in ("[/x]", "[bold]", "[red]", ":smile:"))
