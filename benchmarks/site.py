"""The page of `hrpose site` in Chromium: speed on one core, agreement with Python, size.

    python -m benchmarks.site    measure, and write SITE.md beside this file

Needs npm (or the package in hrpose's cache), chromium and playwright. CPU times are those of all
processes of the browser, which other programs on the machine change little.
"""

import base64
import functools
import http.server
import os
import platform
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

import hrpose
from hrpose.detection.person_detector import builtin_file
from hrpose.site.build import write_site
from hrpose.site.runtime import VERSION
from hrpose.weights import find

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "src" / "hrpose" / "serve" / "page" / "examples"
ONE, THREE = EXAMPLES / "walking.jpg", EXAMPLES / "two-people.jpg"
ROUNDS = 12
POSES = """async (data) => {
    const { fetchPoses } = await import("./page/server.js");
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const blob = new Blob([bytes]);
    const start = performance.now();
    const answer = await fetchPoses(blob, {});
    return [performance.now() - start, answer];
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A plain host without a log."""

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def cpu_seconds(root: int) -> float:
    """Of a process and all its descendants."""
    parents, seconds = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            seconds[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf(
                "SC_CLK_TCK"
            )

    def below(pid: int | None) -> bool:
        while pid is not None and pid != root:
            pid = parents.get(pid)
        return pid == root

    return sum(time for pid, time in seconds.items() if below(pid))


def measure(weights: str, address: str) -> dict[str, str]:
    """The rows of one model, on one core."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#keypoint option:nth-child(3)", state="attached", timeout=300_000)
        start, before = time.perf_counter(), cpu_seconds(os.getpid())
        page.goto(address)  # files are at hand now, as with every later visit
        page.wait_for_selector("#keypoint option:nth-child(3)", state="attached", timeout=300_000)
        ready = time.perf_counter() - start, cpu_seconds(os.getpid()) - before
        engine = page.inner_text(".engine.in-browser").partition(": ")[2]

        def timed(image: Path) -> tuple[float, float, int]:
            """Best wall and mean CPU milliseconds of an image, and its persons."""
            data = base64.b64encode(image.read_bytes()).decode()
            for _ in range(4):  # until the browser has compiled what it will
                page.evaluate(POSES, data)
            before = cpu_seconds(os.getpid())
            answers = [page.evaluate(POSES, data) for _ in range(ROUNDS)]
            cpu = (cpu_seconds(os.getpid()) - before) / ROUNDS * 1000
            return min(ms for ms, _ in answers), cpu, len(answers[0][1]["persons"])

        one, three = timed(ONE), timed(THREE)
        more = [(three[i] - one[i]) / (three[2] - one[2]) for i in (0, 1)]
        estimator = hrpose.load(weights, device="cpu", precision="fp32", exact=True)
        distances, persons, images = [], 0, 0
        folder = HERE.parent / "examples"
        for file in sorted({*EXAMPLES.glob("*.jpg"), *folder.rglob("*.jpg")}):
            _, answer = page.evaluate(POSES, base64.b64encode(file.read_bytes()).decode())
            expected = estimator(file)
            found = [[[p["x"], p["y"]] for p in one["keypoints"]] for one in answer["persons"]]
            if len(found) != len(expected):
                distances.append(np.array([np.inf]))
                continue
            seen = expected.conf >= 0.3
            images, persons = images + 1, persons + len(found)
            distances.append(np.linalg.norm(np.array(found) - expected.xy, axis=-1)[seen])
        browser.close()
    every = np.concatenate(distances)

    def both(pair: Any) -> str:
        return f"{pair[0]:.0f} ms, {pair[1]:.0f} ms"

    return {
        "engine": engine,
        "ready, files at hand: wall, CPU": f"{ready[0]:.1f} s, {ready[1]:.1f} s",
        "an image with one person (800 x 539): best wall, CPU": both(one),
        "each further person: best wall, CPU": both(more),
        "images, persons compared with Python": f"{images}, {persons}",
        "keypoints with a score of 0.3: mean and largest distance": (
            f"{every.mean():.3f}, {every.max():.3f} pixels"
        ),
    }


def main() -> None:
    """Measure, print and write."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of the browser too
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        for weights in ("w32-small", "w16-small"):
            out = Path(folder) / weights
            size = write_site(out, find(weights), builtin_file())
            handler = functools.partial(Quiet, directory=folder)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            loaded = sum(
                file.stat().st_size
                for file in out.rglob("*")
                if file.is_file()
                and not file.name.startswith(("ort.webgpu", "ort-wasm-simd-threaded.a"))
            )
            columns[weights] = {
                "folder, and what a visitor without WebGPU loads": (
                    f"{size / 1e6:.1f} MB, {loaded / 1e6:.1f} MB"
                ),
                **measure(weights, f"http://127.0.0.1:{server.server_port}/{weights}/"),
            }
            server.shutdown()
    rows = [
        f"| {name} | {' | '.join(column[name] for column in columns.values())} |"
        for name in next(iter(columns.values()))
    ]
    lines = [
        "# The page without a server",
        "",
        "Made by `python -m benchmarks.site`, in Chromium on one core. CPU times are those of all",
        "processes of the browser, wall times the best of twelve; the machine had other work.",
        "",
        f"{platform.machine()}, ONNX Runtime {VERSION} for browsers, "
        f"load average {os.getloadavg()[0]:.1f}",
        "",
        f"| what | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    (HERE / "SITE.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
