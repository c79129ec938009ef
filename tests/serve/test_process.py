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
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from hrpose.cli.main import main
from hrpose.image import MAX_BYTES, MAX_PIXELS

from .conftest import NUMBERS, Process, image_of, number_in

pytestmark = pytest.mark.slow  # real processes and sockets

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


@pytest.mark.parametrize(
    "head", [b"", b"POST /v1/poses HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX"]
)
def test_an_incomplete_head_times_out(running: Process, head: bytes) -> None:
    with connect(running) as connection:
        connection.sendall(head)
        status, problem = answer_on(connection)
    assert (status, problem["error"]) == (408, "too_slow")


@pytest.mark.parametrize(
    "pieces",
    [
        [b"X: " + b"x" * 60_000, b"x" * 20_000],
        [b"X: " + b"x" * 100_000 + b"\r\n\r\n"],
        [b"".join(b"X%d: %s\r\n" % (i, b"x" * 1000) for i in range(100)) + b"\r\n"],
    ],
    ids=["endless", "one header", "many headers"],
)
def test_a_long_head_is_refused(running: Process, pieces: list[bytes]) -> None:
    with connect(running) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.1)
        status, problem = answer_on(connection)
    assert (status, problem["error"]) == (431, "too_large")


def upload(number: int, *headers: str, chunked: bool = False) -> bytes:
    """A request for poses as bytes."""
    body = image_of(number)
    length = f"Content-Length: {len(body)}"
    if chunked:
        length, body = "Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    lines = ["POST /v1/poses HTTP/1.1", "Host: localhost", "Content-Type: image/png", length]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def exchange(server: Process, data: bytes, *, half_close: bool = False) -> list[tuple[int, bytes]]:
    """The answers (status, body) until the server closes."""
    with connect(server) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        answers.append((int(head.split()[1]), rest[:length]))
        received = rest[length:]
    return answers


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


@pytest.mark.parametrize("headers", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upgrade_is_ignored(running: Process, headers: tuple[str, ...], chunked: bool) -> None:
    last = upload(6, "Connection: close")
    first, second = exchange(running, upload(5, *headers, chunked=chunked) + last)
    assert [first[0], second[0]] == [200, 200]
    assert [number_in(json.loads(body)) for _, body in (first, second)] == [5, 6]


def test_pipelined_requests_are_all_answered_in_their_order(running: Process) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answers = exchange(running, get * 5_000 + upload(9, "Connection: close"))
    assert [status for status, _ in answers] == [200] * 5_001
    assert number_in(json.loads(answers[-1][1])) == 9


@pytest.mark.parametrize("path", ["/", "/healthz", "/page/main.js", "/v1/models"])
def test_head_is_get_without_body(running: Process, path: str) -> None:
    with httpx.Client(base_url=running.url) as client:
        head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


CHUNKED = (
    b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
LENGTH = b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (CHUNKED + b"5\r\nabcdeX", 400),
        (CHUNKED + b"ZZ\r\nabc", 400),
        (CHUNKED + b"-5\r\nabcde\r\n", 400),
        (CHUNKED + b"fffffffffffffffffffffffff\r\nabcde\r\n", 400),
        (LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET + b"\r\n", 400),
        (LENGTH + b"Transfer-Encoding: identity\r\n\r\nabcde", 400),
        (LENGTH + b"Content-Length: 6\r\n\r\nabcdef", 400),
        (LENGTH.replace(b"5", b"+5") + b"\r\nabcde", 400),
        (GET + b"Host: localhost\r\n\r\n", 400),
        (GET + b"Content-Length : 5\r\n\r\n", 400),
        (GET + b"X: a\0b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
         400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
        (b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
         b"Connection: close\r\n\r\n", 403),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_odd_requests_are_answered_at_once(running: Process, data: bytes, status: int) -> None:
    start = time.monotonic()
    answers = exchange(running, data)
    assert answers[0][0] == status
    assert all(json.loads(body) for _, body in answers)
    assert 200 not in [status for status, _ in answers[1:]]  # no second request in the first
    assert time.monotonic() - start < 3


def in_chunks(data: bytes, size: int) -> bytes:
    parts = (data[i : i + size] for i in range(0, len(data), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_tiny_chunks_do_not_keep_the_server_from_others(running: Process) -> None:
    last = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    ((status, body),) = exchange(running, last + in_chunks(image_of(5, "BMP"), 128))
    assert (status, number_in(json.loads(body))) == (200, 5)
    ((status, body),) = exchange(running, last + in_chunks(image_of(5), 1))
    assert (status, number_in(json.loads(body))) == (200, 5)  # they are few
    with connect(running) as connection:
        with suppress(ConnectionError):
            connection.sendall(last + in_chunks(bytes(50_000), 2))
        assert b" 400 " in connection.recv(65536)


def test_a_client_may_close_its_side_before_the_answer(running: Process) -> None:
    ((status, body),) = exchange(running, upload(8, "Connection: close"), half_close=True)
    assert (status, number_in(json.loads(body))) == (200, 8)
    assert exchange(running, upload(8)[:-20], half_close=True) == []


def test_every_head_has_its_time_also_the_second(running: Process) -> None:
    with connect(running) as connection:
        connection.sendall(GET + b"\r\n")
        assert b"200 OK" in connection.recv(65536)
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            send_forever(connection, b"G", pause=0.1)
    assert time.monotonic() - start < 5


def test_the_rest_of_a_refused_body_does_not_shorten_the_time_after_it(start: Start) -> None:
    running = start(before="from hrpose.serve import server; server.HEAD_SECONDS = 2")
    body = image_of(4)
    head = upload(4).removesuffix(body).replace(b"/v1/poses", b"/nothing")
    with connect(running) as connection:
        connection.sendall(head + body[:50])
        assert b" 404 " in connection.recv(65536)
        for piece in (body[50:70], body[70:100], body[100:]):
            time.sleep(0.8)
            connection.sendall(piece)
        time.sleep(0.8)
        connection.sendall(upload(7, "Connection: close"))
        received = b""
        while part := connection.recv(65536):
            received += part
    assert number_in(json.loads(received[received.rindex(b"\r\n\r\n") :])) == 7


def test_an_idle_connection_ends_without_an_answer(running: Process) -> None:
    body = image_of(4)
    head = upload(4).removesuffix(body).replace(b"/v1/poses", b"/nothing")
    with connect(running) as connection:
        connection.sendall(head)
        assert b" 404 " in connection.recv(65536)
        connection.sendall(body)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b"HTTP/1.1" not in received


def test_broken_bodies_of_refused_requests_leave_no_trace(start: Start) -> None:
    server = start("--token", "secret")
    with connect(server) as connection:
        connection.sendall(CHUNKED)
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(65536)
        connection.sendall(b"ZZ\r\nabc")
        assert connection.recv(65536) == b""
    assert b" 401 " in received
    server.stop()
    assert server.process.stdout is not None
    assert server.process.stdout.read().count("\n") <= 1


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
    request = b"GET /page/main.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(running) as connection:
        connection.settimeout(20)
        with pytest.raises(ConnectionError):  # reset, or a broken pipe
            send_forever(connection, request * 100)


def send_forever(connection: socket.socket, data: bytes, pause: float = 0) -> None:
    while True:
        connection.sendall(data)
        time.sleep(pause)


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


def test_sigterm_answers_accepted_requests_and_accepts_no_more(start: Start) -> None:
    server = start()
    images = [image_of(number, "BMP") for number in range(NUMBERS)]
    connections = []
    # Each request has begun and waits for the second half of its image.
    for image in images:
        connection = connect(server)
        head = (
            "POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/bmp\r\n"
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
        (("--token", ""), "token-empty"),
        (("--allowed-host", "http://a"), "option-invalid"),
        (("--allowed-origin", "null"), "option-invalid"),
    ):
        monkeypatch.setattr(sys, "argv", ["hrpose", "serve", "--weights", str(weights), *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert re.fullmatch(rf"hrpose: .*\[{code}\]\n", error), error


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_does_not_open_the_server(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HRPOSE_TOKEN", token)
    monkeypatch.setattr(sys, "argv", ["hrpose", "serve", "--weights", "nothing"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith("[token-empty]\n")


def test_a_server_for_other_machines_says_who_reaches_it(start: Start) -> None:
    server = start("--host", "0.0.0.0", "--allowed-host", "pose.example")
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    for host, status in (("192.168.1.5", 200), ("pose.example", 200), ("evil.example", 421)):
        assert httpx.get(f"{url}/healthz", headers={"host": host}).status_code == status
    server.stop()
    assert server.process.stdout is not None
    assert "see --token" in server.process.stdout.read()


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


def test_a_missing_extra_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; from hrpose.cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "hrpose[serve]" in done.stderr
