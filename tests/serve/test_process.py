"""A real `hrpose serve`: its sockets, its timeouts, its end."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from hrpose.cli.main import main
from hrpose.image import MAX_BYTES, MAX_PIXELS

from .conftest import NUMBERS, Process, image_of, number_in

QUICK = """from hrpose.serve import server
server.HEAD_SECONDS = 0.5
server.WRITE_SECONDS = 0.5
server.CONNECTIONS = 40
"""

Start = Callable[..., Process]


@pytest.fixture(scope="module")
def running(start: Start) -> Process:
    return start("--workers", 2, before=QUICK)


def connect(server: Process) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 80), timeout=10)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """The status and JSON received until the server closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_it_listens_on_this_machine_only(running: Process) -> None:
    assert running.url.startswith("http://127.0.0.1:")


def test_many_clients_good_and_bad_get_their_own_answers(running: Process) -> None:
    def ask(n: int) -> None:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            for i in range(10):
                number = (n * 7 + i) % NUMBERS
                good = client.post("/v1/poses", files={"image": image_of(number, "JPEG")})
                assert number_in(good.json()) == number
                bad = client.post(
                    "/v1/poses", content=b"<html>", headers={"content-type": "image/png"}
                )
                assert (bad.status_code, bad.json()["error"]) == (422, "bad_image")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_uploads_beyond_the_limit_get_the_reason(running: Process) -> None:
    def endless():  # type: ignore[no-untyped-def]
        for _ in range(400):
            yield bytes(65536)

    for content in (bytes(25_000_000), endless()):
        headers = {"content-type": "image/png"}
        answer = httpx.post(f"{running.url}/v1/poses", content=content, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")


@pytest.mark.slow
@pytest.mark.parametrize("head", [b"", b"POST /v1/poses HT", b"GET / HTTP/1.1\r\nHost: a\r\nX"])
def test_an_incomplete_head_times_out(running: Process, head: bytes) -> None:
    with connect(running) as connection:
        connection.sendall(head)
        status, problem = answer_on(connection)
    assert (status, problem["error"]) == (408, "too_slow")


def test_an_endless_head_is_cut_at_its_limit(running: Process) -> None:
    with connect(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 60_000)
        time.sleep(0.1)
        connection.sendall(b"x" * 20_000)
        status, problem = answer_on(connection)
    assert (status, problem["error"]) == (431, "too_large")


def test_too_many_connections_are_refused(running: Process) -> None:
    idle = [connect(running) for _ in range(45)]
    try:
        status, problem = answer_on(idle[-1])
        assert (status, problem["error"]) == (503, "busy")
    finally:
        for connection in idle:
            connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{running.url}/healthz").status_code == 200:
                break
        except httpx.HTTPError:
            pass
    assert httpx.get(f"{running.url}/healthz").status_code == 200


def test_a_client_that_reads_no_answer_is_disconnected(running: Process) -> None:
    request = b"GET /page/main.js HTTP/1.1\r\nHost: a\r\n\r\n"
    with connect(running) as connection:
        connection.settimeout(20)
        with pytest.raises(ConnectionError):  # reset, or a broken pipe
            send_forever(connection, request * 100)


def send_forever(connection: socket.socket, data: bytes) -> None:
    while True:
        connection.sendall(data)


@pytest.mark.slow
def test_tokens_and_tracebacks_stay_private(start: Start) -> None:
    broken = """
from hrpose.serve.inference import Service
async def poses(self, data, options):
    raise RuntimeError("a secret of the server")
Service.poses = poses
"""
    server = start("--token", "s3cret-token", before=broken)
    answer = httpx.post(
        f"{server.url}/v1/poses",
        files={"image": image_of(1)},
        headers={"authorization": "Bearer s3cret-token"},
    )
    assert (answer.status_code, answer.json()["error"]) == (500, "broken")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    httpx.get(f"{server.url}/v1/models", headers={"authorization": "Bearer s3cret-tokem"})
    server.stop()
    assert server.process.stdout is not None
    log = server.process.stdout.read()
    assert "a secret of the server" in log  # why it failed
    assert "s3cret" not in log


def test_other_protocols_get_a_reason(running: Process) -> None:
    with connect(running) as connection:
        connection.sendall(b"hello\r\n\r\n")
        status, problem = answer_on(connection)
    assert (status, problem["error"]) == (400, "bad_request")


@pytest.mark.slow
def test_sigterm_answers_accepted_requests_and_accepts_no_more(start: Start) -> None:
    server = start()
    images = [image_of(number, "BMP") for number in range(NUMBERS)]
    connections = []
    # Each request has begun and waits for the second half of its image.
    for image in images:
        connection = connect(server)
        head = (
            "POST /v1/poses HTTP/1.1\r\nHost: a\r\nContent-Type: image/bmp\r\n"
            f"Content-Length: {len(image)}\r\n\r\n"
        )
        connection.sendall(head.encode() + image[:1000])
        connections.append(connection)
    while True:
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'hrpose_engine_info{engine="ONNX Runtime on CPU, fp32"} 1.0' in metrics
        if float(re.findall(r"^hrpose_requests_under_way (\S+)", metrics, re.M)[0]) > NUMBERS:
            break
        time.sleep(0.02)
    ended: list[int] = []
    stopper = threading.Thread(target=lambda: ended.append(server.stop()))
    stopper.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            connect(server).close()
        except OSError:
            break
        time.sleep(0.02)
    else:
        raise AssertionError("new connections are still taken")
    for number, connection in enumerate(connections):
        connection.sendall(images[number][1000:])
    for number, connection in enumerate(connections):
        with connection:
            status, answer = answer_on(connection)
        assert status == 200
        assert number_in(answer) == number
    stopper.join(20)
    assert ended == [0]


def test_a_token_comes_from_the_environment_or_the_command(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRPOSE_TOKEN", "from-environment")
    server = start()
    url = f"{server.url}/v1/models"
    assert httpx.get(url).status_code == 401
    right = {"authorization": "Bearer from-environment"}
    assert httpx.get(url, headers=right).status_code == 200


def test_a_server_that_cannot_start_says_why_in_one_line(
    running: Process,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for words, code in (
        (("--port", str(httpx.URL(running.url).port)), "address-unavailable"),
        (("--host", "256.1.1.1"), "address-unavailable"),
        (("--weights", str(tmp_path / "broken.onnx")), "weights-damaged"),
        (("--weights", "nothing"), "weights-unknown"),
        (("--detector", "nobody"), "detector-unknown"),
        (("--token", "a\nb"), "option-invalid"),
    ):
        monkeypatch.setattr(sys, "argv", ["hrpose", "serve", "--weights", str(weights), *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert re.fullmatch(rf"hrpose: .*\[{code}\]\n", error), error


@pytest.mark.parametrize(
    ("option", "most"), [("--max-megabytes", MAX_BYTES), ("--max-megapixels", MAX_PIXELS)]
)
def test_limits_above_those_of_the_reader_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, most: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["hrpose", "serve", option, str(most / 1e6 + 1)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.slow
def test_a_missing_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; from hrpose.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "hrpose[serve]" in done.stderr
