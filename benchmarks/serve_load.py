"""`python -m benchmarks.serve_load`: a real server under good and bad requests; writes SERVER.md.

Every good image has a distinct answer, computed by the library beforehand. The baseline is the
bare session on the same crops in full batches, run before and after in the same process, while the
server is idle. What the server adds to a crop matters less for a larger network:
`--weights w16-small w32.onnx` measures one after the other; `python -m benchmarks.widened` makes
the paper's W32 with known answers.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import statistics
import struct
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

import hrpose
from benchmarks.serving import Measurements, begin, memory_row, options, quantiles, report, resident
from hrpose import weights as registry
from hrpose.geometry import warp
from hrpose.serve.inference import BATCH
from hrpose.session import open_session
from hrpose.synthetic import render_image

IMAGES = 48
# One of this many requests is bad.
BAD_EVERY = 8
# Keypoints below this score may differ: two peaks of nearly the same height may change places.
SURE = 0.4
PROCESSES = 4


@dataclass(frozen=True)
class Good:
    """A request, and the keypoints (k, 3) its answer must have; those below SURE do not count."""

    path: str
    body: bytes
    keypoints: NDArray[np.float32]

    def answered_by(self, answer: dict[str, Any]) -> bool:
        (person,) = answer["persons"]
        found = np.array([[p["x"], p["y"]] for p in person["keypoints"]])
        sure = self.keypoints[:, 2] > SURE
        return bool(np.abs(found - self.keypoints[:, :2])[sure].max() < 1)


@dataclass(frozen=True)
class Bad:
    """A request that must be refused."""

    path: str
    body: bytes
    content_type: str = "image/jpeg"


@dataclass(frozen=True)
class Tally:
    """The results of one client."""

    good: int
    wrong: int
    bad: int
    unrefused: int
    busy: int
    lost: int
    seconds: tuple[float, ...]


def make_good(weights: str, count: int) -> tuple[list[Good], list[NDArray[np.uint8]]]:
    """Requests with their answers, and the crops of their persons."""
    estimator = hrpose.load(weights, threads=1)
    rng = np.random.default_rng(0)
    made: list[Good] = []
    crops: list[NDArray[np.uint8]] = []
    while len(made) < count:
        pixels = render_image(rng, (320, 240), persons=1)
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels.image, cv2.COLOR_RGB2BGR))
        body = encoded.tobytes()
        image = hrpose.image.read_image(body)
        poses = estimator(body, pixels.boxes)
        if (poses.keypoints[0, :, 2] > SURE).sum() < 6:
            continue
        path = f"/v1/poses?boxes={quote(json.dumps(pixels.boxes.tolist()))}"
        made.append(Good(path, body, poses.keypoints[0]))
        crops.append(warp(image, estimator.metadata.crop(pixels.boxes[0])))
    return made, crops


def make_bad(image: bytes) -> list[Bad]:
    """Bad requests of every kind."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pixels = zlib.compress(bytes(30_000 * 3751), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0)
    )
    bomb += chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    many = json.dumps([[1, 2, 30, 40]] * 10_000)
    form = f'--b\r\ncontent-disposition: form-data; name="boxes"\r\n\r\n{many}\r\n'.encode()
    form += b'--b\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form += image + b"\r\n--b--\r\n"
    return [
        Bad("/v1/poses", bomb),
        Bad("/v1/poses", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        Bad("/v1/poses", b"<!doctype html><title>a</title>"),
        Bad("/v1/poses", image[: len(image) // 2]),
        Bad("/v1/poses", b""),
        Bad("/v1/poses", image, "application/json"),
        Bad("/v1/poses?boxes=[[1,2,-3,4]]", image),
        Bad("/v1/poses?boxes=[[NaN,2,3,4]]", image),
        Bad("/v1/poses?threshold=7", image),
        Bad("/v1/poses", form, "multipart/form-data; boundary=b"),
        Bad("/nothing", image),
    ]


def client(url: str, goods: list[Good], bads: list[Bad], seed: int, until: float) -> Tally:
    """Send one request after another until the time is up."""
    rng = np.random.default_rng(seed)
    good = wrong = bad = unrefused = busy = lost = 0
    seconds: list[float] = []
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    while time.time() < until:
        request: Good | Bad = goods[int(rng.integers(len(goods)))]
        if rng.integers(BAD_EVERY) == 0:
            request = bads[int(rng.integers(len(bads)))]
        kind = request.content_type if isinstance(request, Bad) else "image/jpeg"
        start = time.perf_counter()
        try:
            connection.request("POST", request.path, request.body, {"Content-Type": kind})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            lost += 1
            connection.close()
            continue
        if response.status == 503 and response.getheader("retry-after"):
            busy += 1
            time.sleep(0.05)
        elif isinstance(request, Bad):
            bad += 1
            unrefused += not (400 <= response.status < 500 and answer.get("reason"))
        else:
            good += 1
            seconds.append(time.perf_counter() - start)
            wrong += response.status != 200 or not request.answered_by(answer)
    return Tally(good, wrong, bad, unrefused, busy, lost, tuple(seconds))


def clients(
    url: str, goods: list[Good], bads: list[Bad], seeds: list[int], until: float
) -> list[Tally]:
    """Several clients, each in a thread of this process."""
    tallies: list[Tally] = []
    threads = [
        threading.Thread(target=lambda s=seed: tallies.append(client(url, goods, bads, s, until)))
        for seed in seeds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies


def bare(
    weights: str, crops: list[NDArray[np.uint8]], threads: int, seconds: float
) -> tuple[float, float]:
    """The session alone, in batches of the server: crops per second, and CPU seconds per crop."""
    session = open_session(registry.find(weights), threads)
    batches = [np.stack(crops[i : i + BATCH]) for i in range(0, len(crops) - BATCH + 1, BATCH)]
    session(batches[0])
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - start) < seconds:
        session(batches[done % len(batches)])
        done += 1
    return done * BATCH / spent, (time.process_time() - cpu) / (done * BATCH)


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(weights: str, given: argparse.Namespace) -> Measurements:
    """Measurements of a server with these weights."""
    goods, crops = make_good(weights, IMAGES)
    for a, one in enumerate(goods):  # the answers are distinct
        for b, other in enumerate(goods):
            answer = {"persons": [{"keypoints": [{"x": x, "y": y} for x, y, _ in other.keypoints]}]}
            assert one.answered_by(answer) is (a == b)
    bads = make_bad(goods[0].body)
    code = "from hrpose.cli.main import main; main()"
    server, url = begin(code, weights)
    threads = len(os.sched_getaffinity(0))
    alone = given.seconds / 6
    baseline = [bare(weights, crops, threads, alone)]

    memory: list[float] = []
    parts = [list(range(given.clients))[i::PROCESSES] for i in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(time.sleep, [1] * PROCESSES)  # until each has started
        cpu, start = cpu_seconds(server.pid), time.time()
        until = start + given.seconds
        work = pool.starmap_async(clients, [(url, goods, bads, seeds, until) for seeds in parts])
        while not work.ready():
            memory.append(resident(server.pid))
            work.wait(1)
        spent, cpu = time.time() - start, cpu_seconds(server.pid) - cpu
        tallies = [tally for part in work.get() for tally in part]
    baseline.append(bare(weights, crops, threads, alone))
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0

    good = sum(t.good for t in tallies)
    (before, _), (after, _) = baseline
    best, best_cpu = (statistics.mean(column) for column in zip(*baseline, strict=True))
    rate, used = good / spent, cpu / good
    return {
        "clients, seconds": f"{given.clients}, {given.seconds:g}",
        "bare session, crops/s, before and after": f"{before:.1f}, {after:.1f}",
        "server, good answers/s": f"{rate:.1f} ({rate / best:.0%} of the session)",
        "CPU milliseconds: session for a crop, server for an answer, all bad requests counted": (
            f"{best_cpu * 1000:.1f}, {used * 1000:.1f} ({best_cpu / used:.0%})"
        ),
        "seconds to an answer, median and 99%": quantiles([s for t in tallies for s in t.seconds]),
        "good requests, wrong answers": f"{good}, {sum(t.wrong for t in tallies)}",
        "bad requests, not refused with a 4xx and a reason": (
            f"{sum(t.bad for t in tallies)}, {sum(t.unrefused for t in tallies)}"
        ),
        "answered 503, lost": f"{sum(t.busy for t in tallies)}, {sum(t.lost for t in tallies)}",
        **memory_row(memory),
    }


def main() -> None:
    """Run, print and write the measurements."""
    given = options(__doc__, 60, "SERVER.md", several=True)
    columns = {Path(weights).stem: measure(weights, given) for weights in given.weights}
    report("The server under load", __doc__, "serve_load", columns, given.out)


if __name__ == "__main__":
    main()
