"""A project of a few images with bright spots, and its server in this process."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hrpose.api import load
from hrpose.image import encode
from hrpose.label.app import create_app
from hrpose.label.learn import Learner
from hrpose.label.project import Project
from hrpose.label.suggestions import Assistant
from hrpose.serve.middleware import Access

SKELETON = """name: horse
keypoints: [nose, left_ear, right_ear]
limbs: [[nose, left_ear], [nose, right_ear]]
"""


def spot(number: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A dark JPEG with one bright spot."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[20:30, 10 + 9 * number : 20 + 9 * number] = 250
    return encode(pixels, ".jpg")


@dataclass
class Labels:
    """A project, and its application, which is called without sockets."""

    project: Project
    assistant: Assistant
    token: str | None = None
    open: bool = True
    learner: Learner | None = None

    def __post_init__(self) -> None:
        self.learner = self.learner or Learner(self.project, load, lambda: self.assistant.estimator)
        self.app = create_app(self.project, self.assistant, self.learner, self.token, Access())

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as one:
                return await one.request(method, path, **options)

        return asyncio.run(ask())

    def get(self, path: str) -> Any:
        """The JSON of an answer that must be good."""
        answer = self("GET", f"/v1/label/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, *changes: dict[str, Any], by: str = "ann") -> httpx.Response:
        """Send changes."""
        return self("POST", "/v1/label/changes", json={"by": by, "changes": list(changes)})

    def close(self) -> None:
        """As the command does at its end."""
        if self.open:
            self.learner.close()
            self.assistant.close()
            self.project.close()
        self.open = False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, one in a folder of its own, and a skeleton."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(spot(number))
    (folder / "more" / "10.jpg").write_bytes(spot(4, (128, 64)))
    (folder / "horse.yaml").write_text(SKELETON, "utf-8")
    return folder


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., Labels]]:
    """Open the folder as a project; all end with the test."""
    made: list[Labels] = []

    def open_folder(token: str | None = None, **options: Any) -> Labels:
        options.setdefault("skeleton", str(folder / "horse.yaml"))
        project = Project(folder, **options)
        made.append(Labels(project, Assistant(project, None, ""), token))
        return made[-1]

    yield open_folder
    for one in made:
        one.close()


@pytest.fixture
def labels(opened: Callable[..., Labels]) -> Labels:
    """The folder, opened as a project."""
    return opened()
