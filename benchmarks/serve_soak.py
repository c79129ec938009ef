"""`python -m benchmarks.serve_soak`: a real server at saturation, with injected faults; SOAK.md.

Clients send requests without a pause; others disconnect in the middle, leave before their answer,
send slowly, do not read answers, do not speak HTTP, offer HTTP/2, send hundreds of requests at
once, break a chunk, close their side, or come from another site. In the server, batches of the two
network threads fail, threads are ended, memory runs out, and the clock jumps by a day. Finally it
gets SIGTERM, under load. Every good image has a distinct answer, computed beforehand.
"""

import collections
import contextlib
import json
import multiprocessing
import signal
import socket
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.serve_load import BAD_EVERY, Client, Request, make_bad, make_good
from benchmarks.serving import begin, memory_row, options, quantiles, report, resident

IMAGES = 24
PROCESSES = 2
# SIGTERM comes this long before the clients stop.
LAST_SECONDS = 0.3

FAULTS = """
import random, threading, time
from hrpose.session import OnnxSession
from hrpose.serve import server
server.WRITE_SECONDS = 5
server.HEAD_SECONDS = 3
dice, call, now, jump = random.Random(0), OnnxSession.__call__, time.time, [0.0]
def fail(self, crops):
    luck = dice.random()
    if luck < 0.01:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")
    if luck < 0.02 and len(crops) > 1:
        raise SystemExit("a worker is killed")
    if luck < 0.03 and len(crops) > 1:
        raise RuntimeError("a batch breaks")
    if dice.random() < 0.02:
        jump[0] = dice.choice([-86400.0, 0.0, 86400.0])
    return call(self, crops)
OnnxSession.__call__ = fail
time.time = lambda: now() + jump[0]
from hrpose.cli.main import main
main()
"""


@dataclass
class Seen:
    """The results of one client: statuses of good and bad requests, and faults."""

    good: collections.Counter[int] = field(default_factory=collections.Counter)
    bad: collections.Counter[int] = field(default_factory=collections.Counter)
    wrong: int = 0
    unreasoned: int = 0
    lost: int = 0
    seconds: list[float] = field(default_factory=list)


def ask(url: str, goods: list[Request], bads: list[Request], seed: int, until: float) -> Seen:
    """Send requests until the time is up, or the server accepts no more."""
    rng, seen, client = np.random.default_rng(seed), Seen(), Client(url)
    while time.time() < until:
        request = goods[int(rng.integers(len(goods)))]
        if rng.integers(BAD_EVERY) == 0:
            request = bads[int(rng.integers(len(bads)))]
        start = time.perf_counter()
        try:
            status, body = client(request.sent)
            answer = json.loads(body)
        except ConnectionRefusedError:
            seen.lost += time.time() < until - LAST_SECONDS
            break
        except (OSError, ValueError):
            seen.lost += 1
            client.close()
            continue
        if request.keypoints is None:
            seen.bad[status] += 1
        else:
            seen.good[status] += 1
            if status == 200:
                seen.seconds.append(time.perf_counter() - start)
                seen.wrong += not request.answered_by(answer)
        if status != 200:
            seen.unreasoned += not answer.get("reason")
        if status == 503:
            time.sleep(0.05)
    client.close()
    return seen


def disturb(url: str, image: bytes, seed: int, until: float) -> int:
    """Act as every kind of misbehaving client; returns how often."""
    rng, place, count = np.random.default_rng(seed), urlsplit(url), 0
    head = f"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n".encode()  # noqa: E501
    while time.time() < until:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((place.hostname or "", place.port or 80), 5) as connection,
        ):
            count += 1
            match rng.integers(10):
                case 0:  # disconnects in the middle
                    connection.sendall(head + image[: int(rng.integers(len(image)))])
                case 1:  # leaves before its answer
                    connection.sendall(head + image)
                case 2:  # sends slowly
                    connection.sendall(head)
                    for byte in image[:20]:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)
                case 3:  # reads no answer
                    connection.settimeout(1)
                    for _ in range(200):
                        connection.sendall(
                            b"GET /page/main.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
                        )
                case 4:  # sends no HTTP
                    connection.sendall(rng.bytes(500))
                case 5:  # offers HTTP/2
                    offer = b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
                    connection.sendall(head.removesuffix(b"\r\n") + offer + image)
                    connection.recv(65536)
                case 6:  # sends hundreds of requests at once
                    connection.settimeout(2)
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
                    while connection.recv(65536):
                        pass
                case 7:  # breaks a chunk
                    broken = head.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX")
                    connection.sendall(broken + b"5\r\nabcdeX")
                    connection.recv(65536)
                case 8:  # closes its side
                    connection.sendall(head + image)
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)
                case _:  # comes from another site
                    connection.sendall(head.replace(b"Host: localhost", b"Host: a.example") + image)
                    connection.recv(65536)
        time.sleep(0.02)
    return count


def several(
    url: str, goods: list[Request], bads: list[Request], seeds: list[int], until: float
) -> list[Seen]:
    """Several clients and a misbehaving one, each in a thread of this process."""
    found: list[Seen] = []
    threads = [
        threading.Thread(target=lambda s=seed: found.append(ask(url, goods, bads, s, until)))
        for seed in seeds
    ]
    threads.append(threading.Thread(target=disturb, args=(url, goods[0].body, seeds[0], until)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def main() -> int:
    """Run, print and write the measurements; 1 if something failed."""
    given = options(__doc__, 600, "SOAK.md")

    goods, _ = make_good(given.weights, "auto", IMAGES)
    bads = make_bad(goods[0].body)
    server, url = begin(FAULTS, given.weights, "--workers", "2", quiet=True)
    memory: list[float] = []
    parts = [list(range(given.clients))[i::PROCESSES] for i in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(time.sleep, [1] * PROCESSES)  # until each has started
        with urllib.request.urlopen(f"{url}/v1/models") as answer:
            engine = json.load(answer)["models"][0]["engine"]
        until = time.time() + given.seconds
        work = pool.starmap_async(several, [(url, goods, bads, seeds, until) for seeds in parts])
        while time.time() < until - LAST_SECONDS:
            memory.append(resident(server.pid))
            time.sleep(min(1, max(0, until - LAST_SECONDS - time.time())))
        server.send_signal(signal.SIGTERM)
        found = [seen for part in work.get() for seen in part]
    ended = server.wait(120)

    good = sum((seen.good for seen in found), collections.Counter())
    bad = sum((seen.bad for seen in found), collections.Counter())
    waits = [s for seen in found for s in seen.seconds]
    failures = {status: n for status, n in (good + bad).items() if status >= 500 and status != 503}
    wrong, lost = sum(seen.wrong for seen in found), sum(seen.lost for seen in found)
    unreasoned = sum(seen.unreasoned for seen in found)
    clients = f"{given.clients} and {PROCESSES} misbehaving"
    measurements = {
        "weights, clients, seconds": f"{Path(given.weights).stem}, {clients}, {given.seconds:g}",
        "engine": engine,
        "good requests by status": f"{dict(sorted(good.items()))}",
        "bad requests by status": f"{dict(sorted(bad.items()))}",
        "wrong answers, lost answers (SIGTERM included)": f"{wrong}, {lost}",
        "5xx other than 503, refusals without a reason": f"{failures or 0}, {unreasoned}",
        "seconds to a good answer, median and 99%": quantiles(waits),
        **memory_row(memory),
        "exit code after SIGTERM under load": f"{ended}",
    }
    columns = {"measured": measurements}
    report("The server with injected faults", __doc__, "serve_soak", columns, given.out)
    return int(bool(wrong or lost or unreasoned or failures or ended))


if __name__ == "__main__":
    sys.exit(main())
