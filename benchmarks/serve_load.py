"""`python -m benchmarks.serve_load`: a real server under good and bad requests; writes SERVER.md.

Every good image has a distinct answer, computed by the library beforehand; a request carries an
image of 320 x 240 pixels as JPEG and the box of its person. The yardstick is the bare session: the
network alone on the same crops, ready as arrays, with the server's engine, threads and batches of
8. In rounds, first the bare session runs while the server is idle, then the clients send good
requests; shares are medians over the rounds. The clients need cores too, which the bare session has
for itself: the second share gives their CPU time back, and that of CPU time leaves out all other
processes. Bad requests of eleven kinds are mixed in afterwards, one in eight.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import cv2
import numpy as np
from numpy.typing import NDArray

import hrpose
from benchmarks.serving import Measurements, begin, memory_row, options, quantiles, report, resident
from hrpose import weights as registry
from hrpose.geometry import warp
from hrpose.serve.inference import BATCH
from hrpose.session import Session, open_session
from hrpose.synthetic import render_image

IMAGES = 48
ROUNDS = 5
# One of this many requests is bad.
BAD_EVERY = 8
# Keypoints below this score may differ: two peaks of nearly the same height may change places.
SURE = 0.4
PROCESSES = 2


@dataclass(frozen=True)
class Request:
    """A request as it is sent, and the keypoints (k, 3) of its answer; None if it must be refused.

    Keypoints below SURE do not count.
    """

    sent: bytes
    keypoints: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        path: str,
        body: bytes,
        content_type: str = "image/jpeg",
        keypoints: NDArray[np.float32] | None = None,
    ) -> "Request":
        """A POST of a body."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return cls(head.encode() + body, keypoints)

    @property
    def body(self) -> bytes:
        """What is sent behind the head."""
        return self.sent.partition(b"\r\n\r\n")[2]

    def answered_by(self, answer: dict[str, Any]) -> bool:
        """Whether the keypoints of an answer are those expected."""
        assert self.keypoints is not None
        (person,) = answer["persons"]
        found = np.array([[p["x"], p["y"]] for p in person["keypoints"]])
        sure = self.keypoints[:, 2] > SURE
        return bool(np.abs(found - self.keypoints[:, :2])[sure].max() < 1)


@dataclass(frozen=True)
class Tally:
    """The results of some clients: answers by request, status and body, and their seconds."""

    answers: Counter[tuple[int, int, bytes]]
    seconds: list[float]
    lost: int
    cpu: float

    def count(self, requests: Sequence[Request], good: bool) -> tuple[int, int]:
        """The requests that were good, or bad, and how many were not answered as they must be."""
        sent = wrong = 0
        for (index, status, body), times in self.answers.items():
            request = requests[index]
            if status == 503 or (request.keypoints is not None) is not good:
                continue
            answer = json.loads(body)
            if good:
                right = status == 200 and request.answered_by(answer)
            else:
                right = 400 <= status < 500 and bool(answer.get("reason"))
            sent += times
            wrong += 0 if right else times
        return sent, wrong

    @property
    def busy(self) -> int:
        """Requests answered with 503."""
        return sum(n for (_, status, _), n in self.answers.items() if status == 503)


def make_good(weights: str, device: str, count: int) -> tuple[list[Request], NDArray[np.uint8]]:
    """Requests with their answers, and the crops of their persons."""
    estimator = hrpose.load(weights, threads=1, device=device)
    rng = np.random.default_rng(0)
    made: list[Request] = []
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
        made.append(Request.of(path, body, keypoints=poses.keypoints[0]))
        crops.append(warp(image, estimator.metadata.crop(pixels.boxes[0])))
    return made, np.stack(crops)


def make_bad(image: bytes) -> list[Request]:
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
        Request.of("/v1/poses", bomb),
        Request.of("/v1/poses", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        Request.of("/v1/poses", b"<!doctype html><title>a</title>"),
        Request.of("/v1/poses", image[: len(image) // 2]),
        Request.of("/v1/poses", b""),
        Request.of("/v1/poses", image, "application/json"),
        Request.of("/v1/poses?boxes=[[1,2,-3,4]]", image),
        Request.of("/v1/poses?boxes=[[NaN,2,3,4]]", image),
        Request.of("/v1/poses?threshold=7", image),
        Request.of("/v1/poses", form, "multipart/form-data; boundary=b"),
        Request.of("/nothing", image),
    ]


class Client:
    """A connection to the server, with as little work for each request as possible."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._place = place.hostname or "", place.port or 80
        self._socket: socket.socket | None = None

    def __call__(self, sent: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request. Raises OSError where there is none."""
        if self._socket is None:
            self._socket = socket.create_connection(self._place, timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.sendall(sent)
            answer = self._receive(b"")
            while (end := answer.find(b"\r\n\r\n")) < 0:
                answer = self._receive(answer)
            head = answer[:end].lower() + b"\r\n"
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(answer) < end + 4 + length:
                answer = self._receive(answer)
        except (OSError, ValueError):
            self.close()
            raise OSError from None
        if b"\r\nconnection: close\r\n" in head:
            self.close()
        return int(head.split(None, 2)[1]), answer[end + 4 :]

    def close(self) -> None:
        """Close it; the next request opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self, before: bytes) -> bytes:
        if not (more := self._socket.recv(65536) if self._socket else b""):
            raise OSError("closed")
        return before + more


def load(
    url: str, goods: list[Request], bads: list[Request], seeds: Sequence[int], until: float
) -> Tally:
    """Clients, each in a thread of this process, that send requests until the time is up."""
    tally = Tally(Counter(), [], 0, 0)
    lost = Counter[str]()
    cpu = time.process_time()

    def run(seed: int) -> None:
        rng, client = np.random.default_rng(seed), Client(url)
        while time.time() < until:
            index = int(rng.integers(len(goods)))
            if bads and rng.integers(BAD_EVERY) == 0:
                index = len(goods) + int(rng.integers(len(bads)))
            start = time.perf_counter()
            try:
                status, body = client((*goods, *bads)[index].sent)
            except OSError:
                lost["requests"] += 1
                continue
            if status == 503:
                time.sleep(0.05)
            elif index < len(goods):
                tally.seconds.append(time.perf_counter() - start)
            tally.answers[index, status, body] += 1
        client.close()

    threads = [threading.Thread(target=run, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu = time.process_time() - cpu
    return Tally(tally.answers, tally.seconds, lost["requests"], cpu)


def bare(session: Session, crops: NDArray[np.uint8], seconds: float) -> tuple[float, float]:
    """The session alone: crops per second, and CPU seconds per crop."""
    batches = np.split(crops, len(crops) // BATCH)
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - start) < seconds:
        session(batches[done % len(batches)])
        done += 1
    return done * BATCH / spent, (time.process_time() - cpu) / (done * BATCH)


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mean_batch(url: str) -> float:
    """The crops in a batch of the server, on average."""
    with urlopen(f"{url}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    return float(lines["hrpose_batch_crops_sum"]) / float(lines["hrpose_batch_crops_count"])


class Load:
    """The clients, in processes of their own."""

    def __init__(self, pool: Any, url: str, pid: int, clients: int) -> None:
        self._pool = pool
        self._url = url
        self._pid = pid
        self._parts = [range(clients)[i::PROCESSES] for i in range(PROCESSES)]

    def __call__(
        self, goods: list[Request], bads: list[Request], seconds: float, memory: list[float]
    ) -> tuple[Tally, float, float]:
        """The tally of all clients, the seconds spent and the server's CPU time."""
        cpu, start = cpu_seconds(self._pid), time.time()
        given = [(self._url, goods, bads, seeds, start + seconds) for seeds in self._parts]
        work = self._pool.starmap_async(load, given)
        while not work.ready():
            memory.append(resident(self._pid))
            work.wait(0.5)
        spent, cpu = time.time() - start, cpu_seconds(self._pid) - cpu
        tallies: list[Tally] = work.get()
        tally = Tally(
            sum((t.answers for t in tallies), Counter()),
            [second for t in tallies for second in t.seconds],
            sum(t.lost for t in tallies),
            sum(t.cpu for t in tallies),
        )
        return tally, spent, cpu


def measure(weights: str, device: str, given: argparse.Namespace) -> tuple[str, Measurements]:
    """What ran, and the measurements of a server with these weights on this device."""
    goods, crops = make_good(weights, device, IMAGES)
    for a, one in enumerate(goods):  # the answers are distinct
        for b, other in enumerate(goods):
            assert other.keypoints is not None
            answer = {"persons": [{"keypoints": [{"x": x, "y": y} for x, y, _ in other.keypoints]}]}
            assert one.answered_by(answer) is (a == b)
    bads = make_bad(goods[0].body)
    cores = len(os.sched_getaffinity(0))
    session = open_session(registry.find(weights), cores, device)
    bare(session, crops, 1)
    code = "from hrpose.cli.main import main; main()"
    server, url = begin(code, weights, "--device", device)
    memory: list[float] = []
    rounds: list[tuple[float, ...]] = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        send = Load(pool, url, server.pid, given.clients)
        send(goods, bads, 3, memory)  # every batch size has run once
        for _ in range(ROUNDS):
            alone, alone_cpu = bare(session, crops, given.seconds / 4 / ROUNDS)
            tally, spent, cpu = send(goods, [], given.seconds / 2 / ROUNDS, memory)
            good, wrong = tally.count(goods, good=True)
            assert (wrong, tally.lost, tally.busy) == (0, 0, 0)
            left = 1 - tally.cpu / spent / cores
            rounds.append((alone, good / spent, left, alone_cpu, cpu / good, tally.cpu / good))
        mean = mean_batch(url)
        tally, _, _ = send(goods, bads, given.seconds / 4, memory)
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0

    every = (*goods, *bads)
    good, wrong = tally.count(every, good=True)
    bad, unrefused = tally.count(every, good=False)
    alone, rate, _, alone_cpu, cpu, client_cpu = map(statistics.median, zip(*rounds, strict=True))
    name = f"{Path(weights).stem}, {getattr(session, 'engine', device)}"
    return name, {
        "clients, seconds": f"{given.clients}, {given.seconds:g}",
        "bare session, crops/s": f"{alone:.1f}",
        "server, answers/s; crops in a batch": f"{rate:.1f}; {mean:.1f}",
        "**share of the bare session**": shares([r[1] / r[0] for r in rounds]),
        "with the clients' CPU time given back": shares([r[1] / r[0] / r[2] for r in rounds]),
        "of CPU time": shares([r[3] / r[4] for r in rounds]),
        "CPU ms: session for a crop; server, clients for an answer": (
            f"{alone_cpu * 1000:.1f}; {cpu * 1000:.1f}, {client_cpu * 1000:.1f}"
        ),
        "with bad requests: seconds to an answer, median and 99%": quantiles(tally.seconds),
        "good requests, wrong answers": f"{good}, {wrong}",
        "bad requests, not refused with a 4xx and a reason": f"{bad}, {unrefused}",
        "answered 503, lost": f"{tally.busy}, {tally.lost}",
        **memory_row(memory),
    }


def shares(values: Sequence[float]) -> str:
    """The median of shares, and the smallest and largest."""
    return f"{statistics.median(values):.0%} ({min(values):.0%} to {max(values):.0%})"


def main() -> None:
    """Run, print and write the measurements."""
    given = options(__doc__, 60, "SERVER.md", several=True)
    columns = dict(
        measure(weights, device, given) for weights in given.weights for device in given.device
    )
    report("The server under load", __doc__, "serve_load", columns, given.out)


if __name__ == "__main__":
    main()
