"""Every bad request is a 4xx with a reason in JSON, and none stops the server."""

import asyncio
import functools
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrpose.serve.middleware import Limits
from hrpose.session import Session

from .conftest import LIMITS, Serve, Server, image_of, number_in


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.cache
def png(width: int, height: int, *others: bytes) -> bytes:
    """A black image of one bit a pixel, with other chunks before its pixels."""
    packer = zlib.compressobj(9)
    row = bytes((width + 7) // 8 + 1)
    pixels = b"".join(packer.compress(row * 100) for _ in range(height // 100)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + b"".join(others)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20_000_000))
    return file.getvalue()


def noise(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 100).save(file, "PNG")
    return file.getvalue()


SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
)
HTML = b"<!doctype html><script>alert(1)</script>"

IMAGES = [
    ("thirty_thousand", lambda: png(30_000, 30_000), 422, "pixels"),
    ("a_little_too_many_pixels", lambda: png(1001, 1000), 422, "at most 1,000,000 pixels"),
    ("text_bomb", lambda: png(8, 100, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))), 422,
     "damaged"),
    ("zip_bomb", zip_bomb, 422, "expected an image"),
    ("gzip", lambda: gzip.compress(image_of(1)), 422, "expected an image"),
    ("svg", lambda: SVG, 422, "expected an image"),
    ("html", lambda: HTML, 422, "expected an image"),
    ("cut_off", lambda: noise(200, 200)[:9000], 422, "damaged"),
    ("empty", lambda: b"", 400, "found nothing"),
    ("too_many_bytes", lambda: noise(700, 700), 413, "at most 300,000 bytes"),
    ("far_too_many_bytes", lambda: bytes(2_000_000), 413, "at most 300,000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "form"])
@pytest.mark.parametrize(
    ("make", "status", "reason"), [p[1:] for p in IMAGES], ids=[p[0] for p in IMAGES]
)
def test_bad_images(server: Server, make: Any, status: int, reason: str, raw: bool) -> None:
    data = make()
    if raw:
        headers = {"content-type": "image/jpeg"}
        response = server.request("POST", "/v1/poses", content=data, headers=headers)
    else:
        file = ("photo.jpg", data, "image/jpeg")
        response = server.request("POST", "/v1/poses", files={"image": file})
    assert_refused(response, status, reason)
    assert number_in(server.poses(image_of(2)).json()) == 2


def test_the_pixel_bomb_is_small() -> None:
    assert len(png(30_000, 30_000)) < 130_000


BOXES = [
    ("[[1, 2, -3, 4]]", "width and a height above 0"),
    ("[[1, 2, 0, 4]]", "width and a height above 0"),
    ("[[-900, 2, 30, 4]]", "touches the image"),
    ("[[1, 2, 1e300, 4]]", "below a million"),
    ("[[1, 2, 1e999, 4]]", "finite"),
    ("[[NaN, 2, 3, 4]]", "finite"),
    ("[[Infinity, 2, 3, 4]]", "finite"),
    ("[[1, 2, 3]]", "boxes[0, 3]"),
    ("[[1, 2, 3, 4, 5]]", "boxes[0]"),
    ('[["1", 2, 3, 4]]', "boxes[0, 0]"),
    ("[[true, 2, 3, 4]]", "boxes[0, 0]"),
    ("[1, 2, 3, 4]", "boxes[0]"),
    ('{"x": 1}', "boxes"),
    ("null", "boxes"),
    ("", "boxes"),
    ("[[1, 2", "boxes"),
    ("[" * 100_000, "boxes"),
    ("[[1, 2, 3, " + "9" * 10_000 + "]]", "boxes"),
    (json.dumps([[1, 2, 30, 40]] * 21), "at most 20, found 21"),
    (json.dumps([[1, 2, 30, 40]] * 10_000), "at most 20, found 10,000"),
]


@pytest.mark.parametrize(("boxes", "reason"), BOXES, ids=[b[:20] for b, _ in BOXES])
def test_bad_boxes(server: Server, boxes: str, reason: str) -> None:
    assert_refused(server.poses(image_of(1), boxes=boxes), 422, reason)


@settings(max_examples=60, deadline=None)
@given(boxes=st.one_of(
    st.text(max_size=30),
    st.lists(st.lists(st.floats() | st.integers(), max_size=5), max_size=3).map(json.dumps),
))  # fmt: skip
def test_the_server_survives_any_boxes(boxes: str) -> None:
    response = SHARED["server"].poses(image_of(1), boxes=boxes)
    assert response.status_code in (200, 422), response.text
    if response.status_code == 422:
        assert_refused(response, 422, "box")


SHARED: dict[str, Server] = {}


@pytest.fixture(autouse=True)
def _shared(server: Server) -> None:
    # Hypothesis calls a test many times with the fixtures of one call.
    SHARED["server"] = server


OPTIONS = [
    ({"threshold": "nan"}, "threshold"),
    ({"threshold": "1.5"}, "threshold"),
    ({"threshold": "high"}, "threshold"),
    ({"flip_test": "perhaps"}, "flip_test"),
    ({"box": "[]"}, "box"),
    ({"a" * 500: "1"}, "aaa"),
    ({"threshold": ["0.1", "0.2"]}, "twice"),
]


@pytest.mark.parametrize("where", ["query", "form"])
@pytest.mark.parametrize(("options", "reason"), OPTIONS)
def test_bad_options(server: Server, options: dict[str, str], reason: str, where: str) -> None:
    place = {"params": options} if where == "query" else {"data": options}
    response = server.request("POST", "/v1/poses", files={"image": image_of(1)}, **place)
    assert_refused(response, 422, reason)


B = "multipart/form-data; boundary=b"
PART = b'--b\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
FILE = PART % (b"image", b'; filename="a.png"', image_of(1))

BODIES = [
    ("no_type", None, image_of(1), 415, "found 'none'"),
    ("json", "application/json", b"{}", 415, "found 'application/json'"),
    ("urlencoded", "application/x-www-form-urlencoded", b"image=1", 415, "content type"),
    ("no_boundary", "multipart/form-data", b"--b--", 400, "form"),
    ("wrong_boundary", "multipart/form-data; boundary=c", FILE + b"--b--\r\n", 400, "form"),
    ("garbage", B, b"\0\xff" * 50, 400, "form"),
    ("no_file", B, PART % (b"threshold", b"", b"0.5") + b"--b--\r\n", 400, "found threshold"),
    ("text_as_image", B, PART % (b"image", b"", b"x") + b"--b--\r\n", 400, "file 'image'"),
    ("two_files", B, FILE * 2 + b"--b--\r\n", 400, "form"),
    ("a_field_twice", B, FILE + 2 * (PART % (b"boxes", b"", b"[]")) + b"--b--\r\n", 422, "twice"),
    ("many_fields", B, FILE + PART % (b"x", b"", b"1") * 50 + b"--b--\r\n", 400, "form"),
    ("large_field", B, FILE + PART % (b"boxes", b"", b" " * 1_000_001) + b"--b--\r\n", 400, "form"),
    ("not_utf8", B, FILE + PART % (b"boxes", b"", b"\xff\xfe") + b"--b--\r\n", 422, "boxes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content_type", "body", "status", "reason"),
    [b[1:] for b in BODIES],
    ids=[b[0] for b in BODIES],
)
def test_bad_bodies(
    server: Server, content_type: str | None, body: bytes, status: int, reason: str
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    response = server.request("POST", "/v1/poses", content=body, headers=headers)
    assert_refused(response, status, reason)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/poses", 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/nothing", 404),
        ("GET", "/page/nothing.js", 404),
        ("GET", "/page/..%2f..%2fapp.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/" + "a" * 4000, 404),
    ],
)
def test_unknown_routes_and_methods(server: Server, method: str, path: str, status: int) -> None:
    assert_refused(server.request(method, path), status, method)


@pytest.mark.slow
def test_a_client_that_pauses_or_never_ends_is_408(server: Server) -> None:
    async def pauses() -> AsyncIterator[bytes]:
        yield image_of(1)[:50]
        await asyncio.sleep(5)
        yield b"late"

    async def trickles() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    for body in (pauses, trickles):
        headers = {"content-type": "image/png"}
        response = server.request("POST", "/v1/poses", content=body(), headers=headers)
        assert_refused(response, 408, "0.2")
        assert response.headers["connection"] == "close"


def test_an_endless_body_is_cut_at_its_limit(server: Server) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    headers = {"content-type": "image/png"}
    response = server.request("POST", "/v1/poses", content=endless(), headers=headers)
    assert_refused(response, 413, "at most 300,000 bytes")
    assert sent < LIMITS.max_bytes + 1_000_000 + 2 * 65536


def test_other_sites_may_link_but_not_send(server: Server) -> None:
    theirs = {"sec-fetch-site": "cross-site"}
    files = {"image": image_of(1)}
    response = server.request("POST", "/v1/poses", files=files, headers=theirs)
    assert_refused(response, 403, "another origin")
    assert server.request("GET", "/", headers=theirs).status_code == 200
    ours = {"sec-fetch-site": "same-origin"}
    assert server.request("POST", "/v1/poses", files=files, headers=ours).status_code == 200


def test_many_unknown_options_are_refused(server: Server) -> None:
    query = "&".join(f"a{i}=1" for i in range(5_000))
    headers = {"content-type": "image/png"}
    response = server.request("POST", f"/v1/poses?{query}", content=b"x", headers=headers)
    assert_refused(response, 422, "a0: Extra inputs are not permitted")


def test_the_token_is_required(serve: Serve) -> None:
    server = serve(token="s3cret-token")
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer s3cret-tokenn"},
        {"authorization": "Bearer S3CRET-TOKEN"},
        {"authorization": "Bearer  s3cret-token x"},
        {"authorization": "Bearer "},
        {"authorization": "Basic s3cret-token"},
        {"authorization": "s3cret-token"},
        {"authorization": b"Bearer \xff\xfe"},
    ):
        for method, path in (("POST", "/v1/poses"), ("GET", "/v1/models"), ("GET", "/metrics")):
            response = server.request(method, path, headers=headers)
            assert_refused(response, 401, "token")
            assert response.headers["www-authenticate"] == "Bearer"
    right = {"authorization": "Bearer s3cret-token"}
    files = {"image": image_of(4)}
    answer = server.request("POST", "/v1/poses", headers=right, files=files)
    assert number_in(answer.json()) == 4
    for path in ("/", "/healthz", "/readyz", "/openapi.json", "/page/main.js"):
        assert server.request("GET", path).status_code == 200


def test_a_refused_upload_without_token_is_not_read(serve: Serve) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("was read")
        yield b""

    assert_refused(
        serve(token="t").request("POST", "/v1/poses", content=body()), 401, "Authorization"
    )


def test_refused_requests_release_their_bytes(serve: Serve, session: Session) -> None:
    image = noise(100, 100)
    server = serve(limits=Limits(upload_bytes=len(image) + 1000))
    for _ in range(5):
        assert server.poses(image, boxes="x").status_code == 422
    assert server.poses(image).status_code == 200


def assert_refused(response: Any, status: int, reason: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    problem = response.json()
    assert set(problem) - {"cause"} == {"error", "reason"}
    assert reason in problem["reason"]
    assert "\n" not in problem["reason"]
    assert len(problem["reason"]) < 600
    assert "Traceback" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
