"""Labeling in a real browser: every label is saved, and so many actions does it take.

    python -m benchmarks.labeling animals
        30 synthetic animals by mouse and by keys alone, while the server is killed ten times
    python -m benchmarks.labeling corrections people/train.json
        50 persons of a COCO file beside `images`: correcting what the model suggests, and labeling
        from nothing, counted in keys, clicks and drags

Both need Playwright and Chromium.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# A correction is needed where a keypoint is farther from the label than so many of COCO's standard
# deviations of people's labels: about two people in three would still agree within one.
SIGMAS = 2.0
_READY = 120  # seconds
_BUTTONS = {1: "right", 2: "left"}  # that place a hidden or a visible keypoint


@dataclass
class LabelServer:
    """`hrpose label` of a folder, at one port, which may be killed and started again."""

    folder: Path
    options: Sequence[object] = ()
    port: int = 0
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Start it; returns when it listens."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "hrpose", "label", self.folder, "--port", self.port]
        self.process = subprocess.Popen(
            [*map(str, command), *map(str, self.options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "label at" in line:
                return
        raise RuntimeError("".join(lines))

    def end(self, number: int) -> None:
        """Send a signal, and wait for the end."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        self.process.wait(60)
        self.process.stdout.close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def annotations(self) -> Path:
        """The COCO file that it writes."""
        return self.folder / "hrpose-labels" / "annotations.json"


@dataclass
class LabelPage:
    """The page in a browser's tab, and the actions that were done on it.

    `faults` are what the page reports; that the server is away for a moment is none.
    """

    page: Any
    url: str
    actions: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Load the page, and wait for the first image."""
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.goto(self.url, timeout=_READY * 1000)
        self.until("document.querySelector('#keypoints button') !== null")

    def _console(self, message: Any) -> None:
        away = "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not away:
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.faults.append(f"leaves the host: {request.url}")

    def until(self, condition: str) -> None:
        """Wait for JavaScript to be true; the page's policy forbids Playwright's own method."""
        deadline = time.monotonic() + _READY
        while not self.page.evaluate(condition):
            if time.monotonic() > deadline:
                raise TimeoutError(condition)
            self.page.wait_for_timeout(20)

    def saved(self) -> None:
        """Wait until the server has everything."""
        self.until("document.getElementById('saved').textContent === 'All saved'")

    @property
    def image(self) -> str:
        """The name of the image that is shown."""
        return str(self.page.inner_text("#progress").rpartition(" · ")[2])

    def key(self, key: str, times: int = 1) -> None:
        """Press a key."""
        for _ in range(times):
            self.page.keyboard.press(key)
        self.actions["keys"] += times

    def place(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """Where a point of an image of this size is in the tab, while all of it is seen."""
        view = self.page.locator("#view").bounding_box()
        width, height = self.page.evaluate(
            "[document.getElementById('view').clientWidth, "
            "document.getElementById('view').clientHeight]"
        )
        scale = min(width / size[0], height / size[1], 8)
        left, top = (width - size[0] * scale) / 2, (height - size[1] * scale) / 2
        return view["x"] + left + (x + 0.5) * scale, view["y"] + top + (y + 0.5) * scale

    def click(self, x: float, y: float, size: tuple[int, int], button: str = "left") -> None:
        """Click at a point of the image."""
        self.page.mouse.click(*self.place(x, y, size), button=button)
        self.actions["clicks"] += 1

    def list_click(self, keypoint: int) -> None:
        """Choose a keypoint in the list."""
        self.page.click(f"#keypoints li:nth-child({keypoint + 1}) button")
        self.actions["clicks"] += 1

    def drag(self, start: Sequence[float], end: Sequence[float], size: tuple[int, int]) -> None:
        """Drag from one point of the image to another."""
        self.page.mouse.move(*self.place(*start, size))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(*end, size), steps=3)
        self.page.mouse.up()
        self.actions["drags"] += 1

    def walk(self, x: float, y: float, start: tuple[int, int], size: tuple[int, int]) -> None:
        """Move the cross by arrow keys from one point of the image to another."""
        height = self.page.evaluate("document.getElementById('view').clientHeight")
        width = self.page.evaluate("document.getElementById('view').clientWidth")
        scale = min(width / size[0], height / size[1], 8)
        far = round(max(8, height / scale / 20))
        for distance, less, more in (
            (round(x) - start[0], "ArrowLeft", "ArrowRight"),
            (round(y) - start[1], "ArrowUp", "ArrowDown"),
        ):
            # Never beyond the edge, where the cross would stop.
            steps, rest = divmod(abs(distance), far)
            name = more if distance > 0 else less
            self.key(f"Shift+{name}", steps)
            self.key(name, rest)

    def next(self) -> None:
        """The image is done: go to the next."""
        before = self.image
        self.key("Enter")
        self.page.wait_for_timeout(30)
        left = "document.querySelectorAll('#strip .mark[hidden]').length"
        self.until(
            f"!document.getElementById('progress').textContent.endsWith({json.dumps(before)})"
            f" || {left} === 0"
        )


@contextmanager
def browser_page(server: LabelServer, browser: Any = None, **options: Any) -> Iterator[LabelPage]:
    """The page of a server in a tab, by default of a browser of its own."""
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        if browser is None:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
            )
            stack.callback(browser.close)
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        page = LabelPage(context.new_page(), server.url)
        page.open()
        yield page
        context.close()


def label_by_mouse(page: LabelPage, persons: Sequence[Any], size: tuple[int, int]) -> None:
    """Label persons (k, 3): a click for each keypoint, the right button for hidden ones."""
    for person in persons:
        page.key("a")
        for x, y, visibility in person:
            if visibility:
                page.click(x, y, size, _BUTTONS[visibility])
            else:
                page.key("o")


def label_by_keys(page: LabelPage, persons: Sequence[Any], size: tuple[int, int]) -> None:
    """The same by keys alone."""
    at = (size[0] // 2, size[1] // 2)  # where the cross begins
    for person in persons:
        page.key("a")
        for x, y, visibility in person:
            if not visibility:
                page.key("o")
                continue
            page.walk(x, y, at, size)
            at = (round(x), round(y))
            page.key(" " if visibility == 2 else "h")


def truth_of(annotations: Path) -> dict[str, tuple[tuple[int, int], list[Any]]]:
    """Of each image its size, and the keypoints (k, 3) of its persons."""
    document = json.loads(annotations.read_text("utf-8"))
    images = {image["id"]: image for image in document["images"]}
    found: dict[str, tuple[tuple[int, int], list[Any]]] = {
        image["file_name"]: ((image["width"], image["height"]), []) for image in images.values()
    }
    for person in document["annotations"]:
        own = found[images[person["image_id"]]["file_name"]][1]
        own.append(np.reshape(person["keypoints"], (-1, 3)).tolist())
    return found


def label_folder(
    server: LabelServer,
    truth: dict[str, tuple[tuple[int, int], list[Any]]],
    kills: int,
    browser: Any = None,
    seed: int = 0,
) -> tuple[Counter[str], int]:
    """Label all images, the first half by mouse, the others by keys alone, while the server is
    killed at random `kills` times; the actions, and how many keypoints there are.

    Raises AssertionError where a label is not in the exported file.
    """
    chance = random.Random(seed)
    server.start()
    # Before which keypoints the server is killed.
    persons = [person for _, people in truth.values() for person in people]
    total = sum(len(person) for person in persons)
    due = sorted(chance.sample(range(1, total), kills))
    done = 0
    with browser_page(server, browser) as page:
        plain = page.page.mouse.click, page.page.keyboard.press

        def watched(act: Callable[..., None]) -> Callable[..., None]:
            def do(*given: Any, **named: Any) -> None:
                nonlocal done
                if act is plain[0] or given[0] in (" ", "h", "o"):
                    done += 1
                    if due and done >= due[0]:
                        due.pop(0)
                        server.end(signal.SIGKILL)
                        act(*given, **named)
                        server.start()
                        return
                act(*given, **named)

            return do

        page.page.mouse.click = watched(plain[0])
        page.page.keyboard.press = watched(plain[1])
        for number in range(len(truth)):
            size, people = truth[page.image]
            by = label_by_mouse if number < len(truth) / 2 else label_by_keys
            by(page, people, size)
            page.next()
        page.saved()
        assert page.faults == [], page.faults
        actions = page.actions
    server.end(signal.SIGTERM)
    assert not due
    compare(truth_of(server.annotations), truth)
    return actions, total


def compare(
    found: dict[str, tuple[tuple[int, int], list[Any]]],
    truth: dict[str, tuple[tuple[int, int], list[Any]]],
) -> None:
    """Raise AssertionError where labels differ by more than a pixel, or one is missing."""
    assert found.keys() == truth.keys()
    for name, (size, people) in truth.items():
        assert found[name][0] == size
        assert len(found[name][1]) == len(people), name
        for own, other in zip(found[name][1], people, strict=True):
            ours, theirs = np.array(own), np.array(other)
            assert (ours[:, 2] == theirs[:, 2]).all(), name
            off = np.abs(ours[:, :2] - theirs[:, :2])[theirs[:, 2] > 0]
            assert off.max(initial=0) <= 1, (name, off.max())


def animals(arguments: argparse.Namespace) -> None:
    """Label synthetic animals while the server is killed."""
    from hrpose.data.coco import read_annotations
    from hrpose.data.skeleton_file import to_yaml
    from hrpose.synthetic import ANIMAL, write_dataset

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = folder / "drawn"
        write_dataset(drawn, arguments.count, seed=1, figure=ANIMAL)
        skeleton = folder / "animal.yaml"
        skeleton.write_text(to_yaml(read_annotations(drawn / "annotations.json").skeleton), "utf-8")
        server = LabelServer(drawn / "images", ["--skeleton", skeleton])
        start = time.monotonic()
        truth = truth_of(drawn / "annotations.json")
        actions, total = label_folder(server, truth, arguments.kills)
        print(
            f"{len(truth)} images, {total} keypoints, killed {arguments.kills} times: every label "
            f"is in the exported file; {dict(actions)}; {time.monotonic() - start:.0f} s"
        )


@dataclass(frozen=True)
class Person:
    """A person cut out of an image: its size, the label (k, 3), and the COCO scale in pixels."""

    name: str
    size: tuple[int, int]
    label: Any
    scale: float


def cut_persons(annotations: Path, folder: Path, count: int, seed: int = 0) -> list[Person]:
    """Write images of persons, with a margin of a tenth of their box: some of those with at least
    eight labeled keypoints who are at least 64 pixels high.
    """
    from hrpose.data.images import ImageFiles
    from hrpose.image import encode

    document = json.loads(annotations.read_text("utf-8"))
    files = {image["id"]: image["file_name"] for image in document["images"]}
    images = ImageFiles(annotations.parent / "images")
    usable = [
        each
        for each in document["annotations"]
        if each["num_keypoints"] >= 8 and each["bbox"][3] >= 64 and not each.get("iscrowd")
    ]
    random.Random(seed).shuffle(usable)
    persons: list[Person] = []
    for each in usable:
        pixels = images.read(files[each["image_id"]])
        x, y, w, h = each["bbox"]
        margin = 0.1 * max(w, h)
        left, top = max(0, round(x - margin)), max(0, round(y - margin))
        part = pixels[top : round(y + h + margin), left : round(x + w + margin)]
        label = np.reshape(each["keypoints"], (-1, 3)).astype(float)
        label[:, :2] -= np.where(label[:, 2:] > 0, [left, top], 0)
        size = (part.shape[1], part.shape[0])
        if not ((label[:, :2] >= 0) & (label[:, :2] <= np.subtract(size, 1))).all():
            continue
        name = f"{each['id']}.png"
        (folder / name).write_bytes(encode(np.ascontiguousarray(part), ".png"))
        persons.append(Person(name, size, label, float(each["area"]) ** 0.5))
        if len(persons) == count:
            return persons
    raise ValueError(f"{annotations}: expected {count} such persons, found {len(persons)}")


def correct(page: LabelPage, person: Person, suggested: Any, tolerance: Any) -> None:
    """Correct a suggestion (k, 3), in which what the model left out is NaN, by keys and the mouse.

    A place is corrected where it is farther off than the `tolerance` (k,) in pixels.
    """
    from hrpose.skeletons import COCO_17

    label = person.label

    def wrong(points: Any) -> Any:
        far = np.linalg.norm(points[:, :2] - label[:, :2], axis=1) > tolerance
        return (label[:, 2] > 0) & (points[:, 2] > 0) & far

    swapped = suggested[COCO_17.flip_permutation]
    if wrong(swapped).sum() < wrong(suggested).sum():
        page.key("s")
        suggested = swapped
    # What has no label yet comes one after another.
    for x, y, visibility in label[np.isnan(suggested[:, 0])]:
        if visibility:
            page.click(x, y, person.size, _BUTTONS[visibility])
        else:
            page.key("o")
    off = wrong(suggested)
    for index in np.flatnonzero(~np.isnan(suggested[:, 0])).tolist():
        at = suggested[index, :2]
        if suggested[index, 2] == 0:  # outside, as the model sees it
            if label[index, 2]:
                page.list_click(index)
                page.key("x")
                page.click(*label[index, :2], person.size, _BUTTONS[label[index, 2]])
            continue
        if off[index]:
            page.drag(at, label[index, :2], person.size)
            at = label[index, :2]
        if label[index, 2] == 0:  # COCO has no label: it is not to be seen
            page.click(*at, person.size)
            page.key("o")
        elif label[index, 2] == 1:
            page.click(*at, person.size, "right")


def corrections(arguments: argparse.Namespace) -> None:
    """Count the actions of correcting suggestions, and of labeling from nothing."""
    from hrpose.skeletons import COCO_17

    counts: dict[str, Counter[str]] = {}
    for kind in ("corrected", "from nothing"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            persons = {
                person.name: person
                for person in cut_persons(arguments.annotations, folder, arguments.count)
            }
            options = ["--detector", "none", "--weights", arguments.weights]
            server = LabelServer(folder, options)
            server.start()
            with browser_page(server) as page:
                for _ in persons:
                    page.until("!document.getElementById('now').textContent.includes('looks at')")
                    person = persons[page.image]
                    if kind == "from nothing":
                        page.page.keyboard.press("Delete")  # what the model suggests: not counted
                        label_by_mouse(page, [person.label], person.size)
                    else:
                        suggested = page.page.evaluate(
                            """async (name) => {
                                const { images } = await (await fetch("/v1/label/images")).json();
                                const { id } = images.find((image) => image.name === name);
                                const answer = await fetch(`/v1/label/images/${id}`);
                                return (await answer.json()).suggestions[0].keypoints;
                            }""",
                            person.name,
                        )
                        points = np.array([point or [np.nan] * 3 for point in suggested], float)
                        tolerance = SIGMAS * np.array(COCO_17.sigmas) * person.scale
                        correct(page, person, points, tolerance)
                    page.next()
                page.saved()
                assert page.faults == [], page.faults
                counts[kind] = page.actions
            server.end(signal.SIGTERM)
            right = total = 0
            for found, own in truth_of(server.annotations).items():
                (points,) = own[1]
                label, ours = persons[found].label, np.array(points)
                near = np.linalg.norm(ours[:, :2] - label[:, :2], axis=1) <= (
                    SIGMAS * np.array(COCO_17.sigmas) * persons[found].scale + 1
                )
                right += int((near & (ours[:, 2] == label[:, 2])).sum())
                total += len(label)
            print(
                f"{kind}: {sum(counts[kind].values()) / len(persons):.1f} actions a person "
                f"({dict(counts[kind])}); {right} of {total} keypoints are as they should be"
            )
    ratio = sum(counts["from nothing"].values()) / sum(counts["corrected"].values())
    print(f"{len(persons)} persons, {arguments.weights}: {ratio:.1f} times fewer actions")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(required=True)
    drawn = kinds.add_parser("animals")
    drawn.add_argument("--count", type=int, default=30)
    drawn.add_argument("--kills", type=int, default=10)
    drawn.set_defaults(run=animals)
    people = kinds.add_parser("corrections")
    people.add_argument("annotations", type=Path)
    people.add_argument("--count", type=int, default=50)
    people.add_argument("--weights", default="w32-small")
    people.set_defaults(run=corrections)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
