"""`python -m benchmarks.serve_stages`: what a request costs the server beside the network.

A real server with a network that costs nothing answers the requests of `serve_load`; the CPU time
of each of its threads is divided by the answers. The share of the bare session that a model can
reach is its CPU time for a crop, divided by the sum of it and of what the server adds.
"""

import argparse
import io
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serve_load import Request, bare, load, make_good
from hrpose import weights as registry
from hrpose.estimator import FullImage
from hrpose.image import read_image
from hrpose.metadata import Metadata
from hrpose.serve.inference import BATCH
from hrpose.serve.server import listen, serve
from hrpose.session import open_session

ROUNDS = 8
# The server's threads by the beginning of their names.
THREADS = {
    "MainThread": "event loop: HTTP, options, answer as JSON",
    "decode": "decoder threads: JPEG to pixels, checks, crop",
    "batches": "network thread: batches, heatmaps to keypoints",
}


class Free:
    """A session that costs nothing: heatmaps that were made before."""

    engine = "none"

    def __init__(self, metadata: Metadata, heatmaps: NDArray[np.float32]) -> None:
        self.metadata = metadata
        self._heatmaps = heatmaps

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(0.004)  # a network takes its time, in which requests gather
        return self._heatmaps[: len(crops)]


def run(session: Free, pipe: Connection) -> None:
    """Serve, and send the CPU seconds of each thread whenever asked."""
    listener = listen("127.0.0.1", 0)

    def answer() -> None:
        while pipe.recv():
            spent = dict.fromkeys(THREADS, 0.0)
            for thread in threading.enumerate():
                for name in THREADS:
                    if thread.name.startswith(name) and thread.ident:
                        spent[name] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            pipe.send(spent)

    def ready() -> None:
        pipe.send(listener.getsockname()[1])
        threading.Thread(target=answer, daemon=True).start()

    serve([session], listener, [FullImage()], ready=ready)


def of_threads(goods: list[Request], session: Free, clients: int) -> dict[str, list[float]]:
    """CPU milliseconds of each kind of thread for a request, in each round."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    server = context.Process(target=run, args=(session, theirs), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{pipe.recv()}"
    load(url, goods, [], range(clients), time.time() + 2)
    found: dict[str, list[float]] = {name: [] for name in THREADS}
    for _ in range(ROUNDS):
        pipe.send(True)
        before = pipe.recv()
        tally = load(url, goods, [], range(clients), time.time() + 2)
        pipe.send(True)
        after = pipe.recv()
        for name, values in found.items():
            values.append((after[name] - before[name]) * 1000 / len(tally.seconds))
    server.terminate()
    server.join()
    return found


def cpu_ms(work: Callable[[], Any]) -> float:
    """Median CPU milliseconds of this thread."""
    spent = []
    for _ in range(200):
        start = time.thread_time()
        work()
        spent.append((time.thread_time() - start) * 1000)
    return statistics.median(spent)


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--weights", nargs="+", default=["w32-small", "w16-small"])
    parser.add_argument("--device", nargs="+", default=["auto", "cpu"])
    given = parser.parse_args()
    goods, crops = make_good("w16-small", "cpu", 48)
    session = open_session(registry.find("w16-small"), 1, "cpu")
    found = of_threads(goods, Free(session.metadata, session(crops[:BATCH])), given.clients)
    total = sum(statistics.median(values) for values in found.values())
    body = goods[0].body
    print("| stage | CPU ms a request |\n|---|---|")
    for name, values in found.items():
        print(f"| {THREADS[name]} | {statistics.median(values):.2f} (from {min(values):.2f}) |")
    print(f"| all | {total:.2f} |")
    print(f"| of that, libjpeg alone | {cpu_ms(lambda: Image.open(io.BytesIO(body)).load()):.2f} |")
    print(f"| and reading as hrpose does | {cpu_ms(lambda: read_image(body)):.2f} |\n")
    print(
        "| model | session, CPU ms a crop | at most this share of the bare session |\n|---|---|---|"
    )
    for weights in given.weights:
        for device in given.device:
            session = open_session(registry.find(weights), 1, device)
            width, height = session.metadata.input_wh
            images = np.zeros((BATCH, height, width, 3), np.uint8)
            bare(session, images, 1)
            _, cpu = bare(session, images, 3)
            name = f"{weights}, {getattr(session, 'engine', device)}"
            print(f"| {name} | {cpu * 1000:.1f} | {cpu * 1000 / (cpu * 1000 + total):.0%} |")


if __name__ == "__main__":
    main()
