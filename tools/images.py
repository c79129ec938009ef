"""Make every image of the README and the documentation that depends on the model again.

    python -m tools.images [NAME ...]

NAMES are those of `ALL` below, by default all. `explain`, `server`, `measure` and `label` are taken
with Chromium by Playwright, from the pages as they are; `how` are the figures of "How HRNet works".
Look at them before they are committed.
"""

import argparse
import io
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from benchmarks.labeling import LabelServer, browser_page
from numpy.typing import NDArray
from PIL import Image

import hrpose
import tools.figures.__main__ as how
from hrpose.geometry import Crop, warp
from hrpose.image import read_image
from hrpose.io import write_atomically
from hrpose.second_look import arms_of, hand_crops
from hrpose.viz.drawing import box

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, OUT = ROOT / "examples", ROOT / "docs" / "images"
PEOPLE = EXAMPLES / "people"

HEIGHT = 480  # of drawn images, in pixels
CLIP_WIDTH, CLIP_STEP = 640, 2  # of the animation; every second frame of 30 a second

Pixels = NDArray[np.uint8]


def demo() -> None:
    """People whom the model gets right, side by side."""
    _drawn(["walking.jpg", "balancing.jpg"], PEOPLE, "demo.jpg")


def failures() -> None:
    """Portraits, which it gets wrong."""
    _drawn(["astronaut.jpg", "grace_hopper.jpg"], EXAMPLES, "failures.jpg")


def ellipses() -> None:
    """Where keypoints are with 95 % probability."""
    _drawn(["walking.jpg", "balancing.jpg"], PEOPLE, "ellipses.jpg", ellipses=True)


def _drawn(names: Sequence[str], folder: Path, out: str, **options: bool) -> None:
    estimator = hrpose.load(exact=True, covariance=True)
    tiles = [_high(estimator(folder / name).draw(**options), HEIGHT) for name in names]
    _write(out, Image.fromarray(np.concatenate(tiles, axis=1)), "JPEG", quality=85, optimize=True)


def trust() -> None:
    """Keypoints on which the views of a person agree (discs) and others (rings)."""
    import cv2

    from hrpose.detection import open_detector
    from hrpose.geometry import warp
    from hrpose.image import read_image
    from hrpose.models.onnx_pose import open_pose_model
    from hrpose.quality.pseudo_labels import Thresholds, consensus
    from hrpose.weights import find

    model, detector = open_pose_model(find("w32-small")), open_detector()
    tiles = []
    for path, persons in ((EXAMPLES / "astronaut.jpg", 1), (PEOPLE / "balancing.jpg", 2)):
        image = read_image(path)
        boxes = detector(image).best(persons).xywh
        agreed = consensus(model, boxes, lambda _, crop, image=image: warp(image, crop))
        scale = HEIGHT / image.shape[0]
        drawn = _high(image, HEIGHT).copy()
        points, values = agreed.points.reshape(-1, 2) * scale, agreed.trust.ravel()
        for (x, y), value in zip(points, values, strict=True):
            sure = value >= Thresholds().min_trust
            color, width = ((90, 220, 120), -1) if sure else ((230, 60, 60), 2)
            cv2.circle(drawn, (round(x), round(y)), 6, color, width, cv2.LINE_AA)
        tiles.append(drawn)
    _write("trust.jpg", Image.fromarray(np.concatenate(tiles, axis=1)), "JPEG", quality=85)


def whole_body() -> None:
    """How 133 keypoints are drawn: face, feet and hands are placed by rule, as in tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from whole_bodies import whole_body as around

    estimator = hrpose.load(exact=True)
    tiles = []
    for path in (PEOPLE / "balancing.jpg", EXAMPLES / "grace_hopper.jpg"):
        poses = estimator(path)
        largest = int(poses.boxes[:, 2:].prod(axis=1).argmax())
        tiles.append(_high(around(poses[largest]).draw(), HEIGHT))
    _write("whole-body.jpg", Image.fromarray(np.concatenate(tiles, axis=1)), "JPEG", quality=85)


def hands() -> None:
    """Where a second look at hands looks: squares beside the wrists, and what is in them."""
    image = read_image(PEOPLE / "walking.jpg")
    poses = hrpose.load(exact=True)(image)[:1]
    squares = hand_crops(poses.keypoints, arms_of(poses.skeleton))[0]
    drawn = poses.draw(image)
    for square in squares:
        box(drawn, square, 3, (255, 255, 255))
    side = HEIGHT // 2
    crops = [warp(image, Crop.from_box(square, (side, side), padding=1)) for square in squares]
    tiles = [_high(drawn, HEIGHT), np.concatenate(crops, axis=0)]
    _write("hands.jpg", Image.fromarray(np.concatenate(tiles, axis=1)), "JPEG", quality=85)


def clip() -> None:
    """A tracked clip as an animation."""
    frames, times = [], []
    for number, (frame, poses) in enumerate(hrpose.track(EXAMPLES / "walking.mp4")):
        if number % CLIP_STEP == 0:
            image = Image.fromarray(poses.draw(frame.image))
            height = round(image.height * CLIP_WIDTH / image.width)
            frames.append(image.resize((CLIP_WIDTH, height), Image.Resampling.LANCZOS))
            times.append(frame.time)
    lasting = np.diff([*times, 2 * times[-1] - times[-2]])
    _write(
        "clip.webp",
        frames[0],
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=[round(1000 * seconds) for seconds in lasting],
        loop=0,
        quality=55,
        method=6,
    )


def explain() -> None:
    """The features of the branches on the page that `hrpose explain` writes, and one left out."""
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        image = str(PEOPLE / "walking.jpg")
        _run("explain", image, "--out", folder, "--keypoint", "left_elbow")
        (page_file,) = Path(folder).glob("*.html")
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(page_file.as_uri())
        shown = ("svg.features", "section:nth-of-type(5) .figures")
        parts = [Image.open(io.BytesIO(page.locator(part).screenshot())) for part in shown]
        width, height = max(p.width for p in parts), sum(p.height for p in parts) + 40
        whole = Image.new("RGB", (width, height), "white")
        whole.paste(parts[0], (0, 0))
        whole.paste(parts[1], (0, parts[0].height + 40))
        _write("explain.jpg", whole, "JPEG", quality=85, optimize=True)


def server() -> None:
    """The page of `hrpose serve` with the example images; one is shown, a box selected."""
    with _server() as url, _browser() as browser:
        page = browser.new_page(viewport={"width": 1240, "height": 860})
        page.goto(url)
        page.wait_for_selector("#keypoint option:nth-child(3)", state="attached")
        names = ["two-people", "walking", "balancing", "photographer"]
        page.set_input_files("#file", [PEOPLE / f"{name}.jpg" for name in names])
        page.wait_for_selector(f"#strip li:nth-child({len(names)}) .count")
        page.wait_for_selector("#stage[aria-busy=false]")
        page.focus(".box")
        page.wait_for_timeout(500)
        image = Image.open(io.BytesIO(page.screenshot()))
        _write("server.jpg", image.convert("RGB"), "JPEG", quality=85, optimize=True)


def label() -> None:
    """The page of `hrpose label` with the example images: on a desk, and on a phone in the dark."""
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(PEOPLE.glob("*.jpg")):
            shutil.copy(file, folder)
        for name, options in (
            ("label.jpg", {"viewport": {"width": 1400, "height": 900}}),
            (
                "label-phone.jpg",
                {
                    "viewport": {"width": 390, "height": 844},
                    "color_scheme": "dark",
                    "has_touch": True,
                },
            ),
        ):
            server = LabelServer(Path(folder))
            server.start()
            try:
                with browser_page(server, **options) as tab:
                    page = tab.page
                    tab.until("document.querySelector('#persons-list button') !== null")
                    tab.key("PageDown")
                    tab.until("document.querySelector('#persons-list .suggested') !== null")
                    tab.key("Shift+N")
                    page.wait_for_timeout(1500)
                    image = Image.open(io.BytesIO(page.screenshot()))
                    _write(name, image.convert("RGB"), "JPEG", quality=85, optimize=True)
            finally:
                server.end(signal.SIGTERM)


def site() -> None:
    """The page of `hrpose site`: on a desktop in light colors, beside a phone in dark ones."""
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        _run("site", f"{folder}/demo")
        command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        host = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            port = str(host.stdout and host.stdout.readline()).partition(" port ")[2].split()[0]
            views = (("walking", "light", 1180), ("two-people", "dark", 390))
            parts = []
            for name, scheme, width in views:
                size = {"width": width, "height": 800}
                context = browser.new_context(viewport=size, color_scheme=scheme)
                page = context.new_page()
                page.goto(f"http://127.0.0.1:{port}/demo/")
                page.wait_for_selector(
                    "#keypoint option:nth-child(3)", state="attached", timeout=240_000
                )
                page.set_input_files("#file", PEOPLE / f"{name}.jpg")
                page.wait_for_selector("#strip .count", timeout=120_000)
                page.wait_for_selector("#stage[aria-busy=false]")
                if scheme == "light":  # the heatmap of the left knee
                    page.select_option("#keypoint", "13")
                page.wait_for_timeout(500)
                page.wait_for_selector("#stage[aria-busy=false]", timeout=120_000)
                page.wait_for_timeout(500)
                parts.append(Image.open(io.BytesIO(page.screenshot())))
                context.close()
        finally:
            host.terminate()
            host.wait()
        both = Image.new("RGB", (sum(part.width for part in parts) + 20, 800), "white")
        both.paste(parts[0], (0, 0))
        both.paste(parts[1], (parts[0].width + 20, 0))
        _write("site.jpg", both, "JPEG", quality=85, optimize=True)


def measure() -> None:
    """The page of `hrpose measure` with the example clip, the cursor on a chart."""
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        measured = hrpose.measure(EXAMPLES / "walking.mp4", height=1.7)
        page_file = Path(folder) / "measures.html"
        measured.save_html(page_file, measured.repetitions("knee_left"))
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(page_file.as_uri())
        box = page.locator(".chart svg").first.bounding_box()
        page.mouse.move(box["x"] + 0.36 * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)
        image = Image.open(io.BytesIO(page.screenshot()))
        _write("measure.jpg", image.convert("RGB"), "JPEG", quality=85, optimize=True)


ALL = {
    "demo": demo,
    "failures": failures,
    "clip": clip,
    "explain": explain,
    "server": server,
    "measure": measure,
    "label": label,
    "site": site,
    "ellipses": ellipses,
    "trust": trust,
    "whole-body": whole_body,
    "hands": hands,
    "how": how.main,
}


def _high(image: Pixels, height: int) -> Pixels:
    width = round(image.shape[1] * height / image.shape[0])
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _write(name: str, image: Image.Image, kind: str, **options: Any) -> None:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    write_atomically(OUT / name, buffer.getvalue())
    print(f"{len(buffer.getvalue()) / 1000:7.1f} kB  {name}")


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hrpose", *arguments], check=True)


@contextmanager
def _server() -> Iterator[str]:
    """The address of a server, while it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-m", "hrpose", "serve", "--port", port])
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                with urlopen(f"{url}/healthz"):
                    break
            except OSError:
                time.sleep(0.25)
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _browser() -> Iterator[Any]:
    """Chromium, as the tests start it."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def main() -> None:
    """Read the command line and make the images."""
    parser = argparse.ArgumentParser(description="Make the images of the documentation.")
    parser.add_argument("names", nargs="*", choices=[*ALL, []], metavar="NAME")
    for name in parser.parse_args().names or ALL:
        ALL[name]()


if __name__ == "__main__":
    main()
