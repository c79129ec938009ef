"""What the checks share with the tests: the folders, the browser, and how skips are reported."""

from conftest import browser, pytest_collection_modifyitems, pytest_terminal_summary, shared  # noqa: F401
