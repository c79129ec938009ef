"""The one exception for what a user can fix, and the one for a package that is not installed."""

import re
from functools import partial
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """Bad input: one line that says what, where, expected and found, and a remedy.

    `code` names the kind of mistake, such as "boxes-invalid": programs and tests match it, people
    read the message, whose wording may change. The command line prints both without a traceback
    and ends with exit code 2; docs/reference/errors.md lists the codes.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled by their arguments, and the code is not among them.
        return partial(type(self), code=self.code), (str(self),)


def check_not_input(out: Path, given: Path) -> None:
    """Raises UserError where the file `out` would replace the input `given`."""
    if out.exists() and given.exists() and out.samefile(given):
        raise UserError(f"{out}: is the input; choose another --out", code="overwrite-refused")


def missing(what: str, error: ImportError, install: str) -> UserError:
    """What to raise where `what` needs a package that is not installed; pip knows it as `install`.

    Raises `error` itself where one of hrpose's own modules is missing: no user can fix that.
    """
    package = error.name or install  # errors that others raise need not have a name
    if re.match(r"hrpose\b", package):
        raise error
    return UserError(
        f"{what} needs the package '{package}', which is not installed; pip install '{install}'",
        code="package-missing",
    )
