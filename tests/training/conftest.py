"""The fixture of tests that run trainings."""

from collections.abc import Iterator

import pytest

from trainings import Trainings


@pytest.fixture(scope="session")
def trainings() -> Iterator[Trainings]:
    server = Trainings()
    yield server
    server.close()
