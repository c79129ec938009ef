"""Servers of streams for tests: Motion JPEG over HTTP, and H.264 over RTSP, both in a thread."""

import base64
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av

from clips import colors
from hrpose.image import encode

RATE = 20


class MotionJpeg(ThreadingHTTPServer):
    """Serves `count` frames of 64 x 48 to each connection, then breaks it off; or it is silent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, count: int = 10**6, silent_after: int = 10**6) -> None:
        images = [encode(image, ".jpg") for image in colors(20)]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for index in range(count):
                        while index >= silent_after and not self.server.stopped:
                            time.sleep(0.02)
                        if self.server.stopped:
                            return
                        data = images[index % len(images)]
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                        self.wfile.write(head.encode() + b"\r\n\r\n" + data + b"\r\n")
                        time.sleep(1 / RATE)

            def log_message(self, *_: object) -> None: ...

        self.stopped = False
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/cam"

    def __enter__(self) -> "MotionJpeg":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped = True
        self.shutdown()
        self.server_close()


@contextmanager
def rtsp_server(port: int = 0, count: int = 10**6) -> Iterator[str]:
    """The address of a camera that sends `count` frames to each connection, then breaks it off.

    RTSP (RFC 2326) with RTP in the same connection, and H.264 in it (RFC 6184).
    """
    listener = socket.create_server(("127.0.0.1", port))
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    _talk(connection, count, stopped)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream"
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _talk(connection: socket.socket, count: int, stopped: threading.Event) -> None:
    packets = _encoded()
    sets = ",".join(
        base64.b64encode(unit).decode() for unit in packets[0] if unit[0] & 31 in (7, 8)
    )
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n"
        "a=control:track1\r\n"
    )
    extra = {
        "OPTIONS": ("Public: DESCRIBE, SETUP, PLAY, TEARDOWN", ""),
        "DESCRIBE": ("Content-Type: application/sdp", description),
        "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1", ""),
        "PLAY": ("Session: 1", ""),
    }
    with connection.makefile("rb") as requests:
        while not stopped.is_set():
            lines = list(iter(lambda: requests.readline().strip(), b""))
            if not lines:
                return
            method = lines[0].split()[0].decode()
            number = next(line for line in lines if line.lower().startswith(b"cseq")).decode()
            head, body = extra.get(method, ("Session: 1", ""))
            connection.sendall(
                f"RTSP/1.0 200 OK\r\n{number}\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n"
                f"{body}".encode()
            )
            if method == "PLAY":
                break
    sequence = 0
    for index in range(count):
        for unit in packets[index % len(packets)]:
            for payload, last in _payloads(unit):
                head = struct.pack(
                    ">BBHII", 0x80, 96 | (last << 7), sequence & 0xFFFF, index * 90000 // RATE, 7
                )
                connection.sendall(b"$\0" + struct.pack(">H", 12 + len(payload)) + head + payload)
                sequence += 1
        if stopped.wait(1 / RATE):
            return


def _payloads(unit: bytes, size: int = 1200) -> Iterator[tuple[bytes, bool]]:
    """A unit of H.264 whole, or in fragments; and whether the frame ends with it."""
    ends = unit[0] & 31 in (1, 5)
    if len(unit) <= size:
        yield unit, ends
        return
    starts = range(1, len(unit), size)
    for start in starts:
        first, last = start == 1, start + size >= len(unit)
        kind = bytes([unit[0] & 0xE0 | 28, first << 7 | last << 6 | unit[0] & 31])
        yield kind + unit[start : start + size], ends and last


def _encoded() -> list[list[bytes]]:
    """The units of H.264 of 20 frames of 64 x 48."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base = Fraction(1, RATE)
    codec.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "slices=1"}
    codec.gop_size = 10
    found = []
    for index, image in enumerate(colors(20)):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = index
        for packet in codec.encode(frame):
            units = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
            found.append([unit for unit in units if unit])
    return found
