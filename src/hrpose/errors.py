"""The one exception for what the user can mend."""


class UserError(ValueError):
    """Bad input: one line that says what, where, expected and found, and a remedy.

    The command line prints it without a traceback and ends with exit code 2.
    """
