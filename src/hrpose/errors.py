"""The one exception for what the user can mend, and what it says of packages."""

import re


class UserError(ValueError):
    """Bad input: one line that says what, where, expected and found, and a remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """


def missing(what: str, error: ImportError, install: str) -> UserError:
    """What to raise where `what` needs a package that is not there; pip finds it as `install`.

    Raises `error` itself where one of hrpose's own modules is missing: no user can mend that.
    """
    package = error.name or install  # what others raise need not have a name
    if re.match(r"hrpose\b", package):
        raise error
    return UserError(
        f"{what} needs the package '{package}', which is not installed; pip install '{install}'"
    )
