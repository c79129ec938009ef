"""Refusals of bad input, told by their code: what the message says may be worded better."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import Result

from hrpose.errors import UserError


@contextmanager
def refused(code: str, *mentions: str) -> Iterator[None]:
    """The body must raise a UserError with this code.

    `mentions` are facts that its one line has to name: a file, an entry, the value found.
    """
    with pytest.raises(UserError) as caught:
        yield
    _check(caught.value, code, *mentions)


def check_refusal(result: Result, code: str, *mentions: str) -> None:
    """The command that a CliRunner ran must have raised a UserError with this code."""
    assert isinstance(result.exception, UserError), result.output
    _check(result.exception, code, *mentions)


def _check(error: UserError, code: str, *mentions: str) -> None:
    assert error.code == code, f"expected {code}, found {error.code}: {error}"
    assert "\n" not in str(error)
    assert all(mention in str(error) for mention in mentions), str(error)
