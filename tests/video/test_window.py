"""The window of `--show`, on a virtual display."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ImageGrab

from hrpose.video.writing import Window

pytestmark = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")
SCREEN = (640, 480)
RED = (200, 30, 20)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    pytest.importorskip("tkinter")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{SCREEN[0]}x{SCREEN[1]}x24"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        name = f":{pipe.readline().strip()}"
    yield name
    server.terminate()
    server.wait()


def red_pixels(display: str) -> tuple[int, int]:
    """Width and height of what is red on the screen."""
    screen = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")).astype(int)
    y, x = np.nonzero(np.abs(screen - RED).max(axis=2) < 12)
    return int(np.ptp(x)) + 1, int(np.ptp(y)) + 1


def image(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), RED, np.uint8)


def press(window: Window, key: str) -> None:
    window._root.focus_force()  # a window manager's task, and there is none
    window._root.update()
    window._root.event_generate(key, when="now")


@pytest.mark.skipif(sys.platform != "linux", reason="Xvfb is Linux's")
def test_a_window_shows_images_until_it_is_closed(
    display: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPLAY", display)
    with Window("hrpose") as window:
        for size, shown in (((200, 100), (200, 100)), ((1280, 480), (576, 216))):
            for _ in range(3):  # the first goes by before the window is mapped
                assert window.show(image(*size))
            assert red_pixels(display) == shown
        press(window, "<Escape>")
        assert not window.show(image(200, 100))


@pytest.mark.parametrize("way", ["q", "button"])
def test_other_ways_to_close_it(display: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("DISPLAY", display)
    with Window("hrpose") as window:
        window.show(image(200, 100))
        if way == "q":
            press(window, "q")
        else:  # what a window manager sends
            window._root.tk.call(
                *window._root.tk.splitlist(window._root.protocol("WM_DELETE_WINDOW"))
            )
        assert not window.show(image(200, 100))
