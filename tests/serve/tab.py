"""A browser tab with the page of the server."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Tab:
    """A browser tab with the page, and every fault it reports."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 850}, **options}
        )
        self.page = self.context.new_page()
        self.url = url
        self.faults: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._request)
        # The machine may be busy with other tests.
        self.page.goto(url, timeout=120_000)
        self.page.wait_for_selector("#keypoint option:nth-child(3)", state="attached")

    def _console(self, message: Any) -> None:
        # Tests read the canvas more than once; the page does not.
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.faults.append(f"leaves the host: {request.url}")

    def request(self, action: Callable[[], None]) -> dict[str, Any]:
        """Do something that makes the page send a request; returns the answer once it is shown."""
        with self.page.expect_response("**/v1/poses") as waited:
            action()
        answer: dict[str, Any] = waited.value.json()
        self.page.wait_for_selector("#stage[aria-busy=false]", state="attached")
        return answer

    def transfer(self, *files: Path, name: str = "photo.jpg") -> Any:
        """Files as the desktop or the clipboard passes them to the page; `name` is that of one."""
        names = [name] if len(files) == 1 else [file.name for file in files]
        contents = [base64.b64encode(file.read_bytes()).decode() for file in files]
        return self.page.evaluate_handle(
            """(files) => {
                const transfer = new DataTransfer();
                for (const [name, data] of files) {
                    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
                    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
                }
                return transfer;
            }""",
            list(zip(names, contents, strict=True)),
        )

    def drop(self, file: Path, name: str = "photo.jpg") -> dict[str, Any]:
        handle = self.transfer(file, name=name)
        return self.request(
            lambda: self.page.dispatch_event("#stage", "drop", {"dataTransfer": handle})
        )

    def pixels(self, points: list[tuple[float, float]], width: int) -> list[tuple[int, ...]]:
        """The canvas's colors at points of an image of this width."""
        found = self.page.evaluate(
            """([points, width]) => {
                const canvas = document.getElementById("canvas");
                const scale = canvas.width / width;
                const context = canvas.getContext("2d");
                return points.map(([x, y]) => [...context.getImageData(
                    (x + 0.5) * scale, (y + 0.5) * scale, 1, 1).data.slice(0, 3)]);
            }""",
            [points, width],
        )
        return [tuple(color) for color in found]

    def hold(self, file: str = "v1/poses") -> list[Any]:
        """Hold back the next request, but none after it; returns the list of held requests."""
        held: list[Any] = []
        self.page.route(
            f"**/{file}", lambda route: route.continue_() if held else held.append(route)
        )
        return held

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        """Drag with the mouse, and release it."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(start[0] + by[0], start[1] + by[1], steps=4)
        self.page.mouse.up()

    def select(self) -> dict[str, float]:
        """Select the first box, which then has handles; returns its place."""
        self.page.focus(".box")
        return self.box()

    def grab(self) -> tuple[dict[str, float], Any]:
        """Start dragging the lower right corner of the first box: the box before, and the mouse."""
        place, mouse = self.select(), self.page.mouse
        mouse.move(place["x"] + place["width"], place["y"] + place["height"])
        mouse.down()
        mouse.move(place["x"] + 500, place["y"] + 500)
        return place, mouse

    def until(self, condition: str) -> None:
        """Wait for JavaScript to be true; the page's policy forbids Playwright's own method."""
        deadline = time.monotonic() + 60
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def summary(self) -> str:
        return str(self.page.inner_text("#summary"))

    def box(self) -> dict[str, float]:
        place: dict[str, float] = self.page.locator(".box").first.bounding_box()
        return place


def keypoints(answer: dict[str, Any], least: float = 0.3) -> dict[str, tuple[float, float]]:
    (person,) = answer["persons"]
    return {p["name"]: (p["x"], p["y"]) for p in person["keypoints"] if p["score"] >= least}
