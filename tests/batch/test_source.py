"""Images where they are: folders, zip files, lists, tables, web servers with faults."""

import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_workers import jpeg
from hrpose.batch import source as source_module
from hrpose.batch.source import absolute, open_source
from hrpose.errors import UserError
from refusals import refused

NAMES = ["a.jpg", "b/c.PNG", "b/d e.jpeg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "b" / "empty").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        (folder / name).write_bytes(jpeg(i))
    (folder / "b" / "notes.txt").write_text("no image")
    return folder


class Server(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP. `faults` are what becomes of the next answers; `asked` the paths."""

    faults: list[str]
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "busy":
            self.send_error(503)
        elif fault == "forbidden":
            self.send_error(403)
        elif fault == "short":
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:20])
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Server.faults, Server.asked = [], []
    monkeypatch.setattr(source_module, "PAUSES", (0.0, 0.0))
    handler = partial(Server, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_folder(folder: Path) -> None:
    source = open_source(str(folder))
    assert list(source.names()) == NAMES
    assert source.content("b/c.PNG") == jpeg(1)
    with refused("file-unreadable", "x.jpg"):
        source.content("x.jpg")


@pytest.mark.parametrize("inside", ["", "@/b"])
def test_a_zip_file(folder: Path, tmp_path: Path, inside: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in [*NAMES, "b/notes.txt"]:
            archive.write(folder / name, name)
    source = open_source(absolute(f"{tmp_path / 'a.zip'}{inside}"))
    names = [name for name in NAMES if inside == "" or name.startswith("b/")]
    below = [name.removeprefix("b/") if inside else name for name in names]
    assert list(source.names()) == below
    assert source.content(below[-1]) == jpeg(2)


def test_a_list_of_lines(folder: Path, tmp_path: Path) -> None:
    lines = ["a.jpg", str(folder / "b" / "c.PNG"), "", "../x.jpg"]
    (folder / "list.txt").write_bytes("\r\n".join(lines).encode())
    source = open_source(str(folder / "list.txt"))
    assert list(source.names()) == ["a.jpg", str(folder / "b" / "c.PNG"), "../x.jpg"]
    (folder / "list.txt").unlink()
    # A worker need not have the list.
    assert [source.content(name) for name in lines[:2]] == [jpeg(0), jpeg(1)]
    with refused("file-unreadable", "../x.jpg"):
        source.content("../x.jpg")


@pytest.mark.parametrize("column", ["file", "path", "url"])
def test_a_table(folder: Path, tmp_path: Path, column: str) -> None:
    table = pa.table({"id": [1, 2], column: ["a.jpg", str(folder / "a.jpg")]})
    pq.write_table(table, tmp_path / "list.parquet")
    source = open_source(str(tmp_path / "list.parquet"))
    assert list(source.names()) == ["a.jpg", str(folder / "a.jpg")]
    assert source.content(str(folder / "a.jpg")) == jpeg(0)


@pytest.mark.parametrize(
    ("name", "content", "mention"),
    [
        ("a.txt", b"\xff\n", "line 1"),
        ("a.txt", b"a.jpg\n\0\n", "line 2"),
        ("a.txt", b"x" * 20_000, "line 1"),
        ("a.parquet", b"PAR1", "Parquet"),
        ("a.parquet", pa.table({"id": [1]}), "file, path, url or file_name"),
        ("a.parquet", pa.table({"file": ["a", None]}), "None"),
        ("a.parquet", pa.table({"file": [1, 2]}), "1"),
    ],
)
def test_invalid_lists(tmp_path: Path, name: str, content: object, mention: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(content, tmp_path / name)
    with refused("list-invalid", name, mention):
        list(open_source(str(tmp_path / name)).names())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nowhere", "images-missing"),
        ("nowhere.txt", "file-unreadable"),
        ("a.jpg", "images-missing"),
        ("ftp://host/a", "address-invalid"),
        ("file:///etc", "address-invalid"),
        ("simplecache::s3://bucket/a", "address-invalid"),
        ("https://me:secret@host/a", "address-invalid"),
        ("gs://bucket/a", "package-missing"),
    ],
)
def test_invalid_sources(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError) as caught:
        list(open_source(text).names())
    assert caught.value.code == code
    assert "secret" not in str(caught.value)


def test_an_address(address: str) -> None:
    source = open_source(address)
    assert list(source.names()) == ["a.jpg", "b/c.PNG", "b/d%20e.jpeg"]
    assert [source.content(name) for name in source.names()] == [jpeg(i) for i in range(3)]


def test_a_list_at_an_address_and_addresses_in_a_list(
    folder: Path, address: str, tmp_path: Path
) -> None:
    (folder / "list.txt").write_text(f"a.jpg\n{address}/b/c.PNG\n")
    for text in (f"{address}/list.txt", str(folder / "list.txt")):
        source = open_source(text)
        assert [source.content(name) for name in source.names()] == [jpeg(0), jpeg(1)]
    (folder / "list.txt").unlink()


@pytest.mark.parametrize("fault", ["busy", "short"])
def test_a_failed_read_is_retried(address: str, fault: str) -> None:
    Server.faults = [fault, fault]
    assert open_source(address).content("a.jpg") == jpeg(0)
    assert Server.asked == ["/a.jpg"] * 3


@pytest.mark.parametrize(
    ("faults", "name", "code", "mention", "times"),
    [
        (["busy"] * 9, "a.jpg", "download-failed", "status 503", 3),
        (["short"] * 9, "a.jpg", "download-failed", "", 3),
        (["forbidden"] * 9, "a.jpg", "download-failed", "status 403", 3),
        ([], "x.jpg", "file-unreadable", "", 1),
    ],
)
def test_a_read_that_keeps_failing_is_reported_without_keys(
    address: str, faults: list[str], name: str, code: str, mention: str, times: int
) -> None:
    Server.faults = list(faults)
    with pytest.raises(UserError) as caught:
        open_source("list.txt").content(f"{address}/{name}?key=secret")
    assert caught.value.code == code
    assert f"{address}/{name}: " in str(caught.value)
    assert mention in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(Server.asked) == times


def test_reading_is_bounded(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_BYTES", 100)
    assert open_source(address).content("a.jpg") == jpeg(0)[:101]


def test_a_store_with_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3's way of reading, on fsspec's store in memory, which users cannot name."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(source_module.PACKAGES, "memory", "fsspec")
    store = fsspec.filesystem("memory")
    for name in ("bucket/a.jpg", "bucket/b/c.jpg", "other/d.jpg"):
        store.pipe_file(f"/{name}", name.encode())
    source = open_source("memory://bucket/")
    assert list(source.names()) == ["a.jpg", "b/c.jpg"]
    assert source.content("b/c.jpg") == b"bucket/b/c.jpg"
    with refused("file-unreadable", "memory://bucket/x.jpg"):
        source.content("x.jpg")
    monkeypatch.setattr(source_module, "MAX_BYTES", 5)
    assert source.content("a.jpg") == b"bucket"
    with refused("file-unreadable", "memory://nothing"):
        list(open_source("memory://nothing").names())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("memory://none?key=secret", "file-unreadable"),
        ("memory://a/list.txt?key=secret.txt", "list-invalid"),
        ("memory://a/list.txt?key=secret.parquet", "list-invalid"),
        ("http://[secret?key=secret", "address-invalid"),
    ],
)
def test_no_message_shows_a_key(monkeypatch: pytest.MonkeyPatch, text: str, code: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(source_module.PACKAGES, "memory", "fsspec")
    store = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(store, "open", lambda *_, **__: io.BytesIO(b"\xff\xfe\n"))
    with pytest.raises(UserError) as caught:
        list(open_source(text).names())
    assert caught.value.code == code
    assert "key=secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "rtsp", "s3"])
def test_an_address_whose_brackets_do_not_fit_is_refused(scheme: str) -> None:
    with refused("address-invalid", f"{scheme}://[::1"):
        list(source_module.sources_at(f"{scheme}://me:secret@[::1"))


class Faulty(io.RawIOBase):
    """A line without an end, which fails after so many bytes."""

    def __init__(self, most: int) -> None:
        self.left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.left <= 0:
            raise RuntimeError("the store's own words")
        buffer[:] = b"x" * len(buffer)
        self.left -= len(buffer)
        return len(buffer)


@pytest.mark.parametrize("fault", ["opening", "reading"])
def test_a_store_that_fails_to_read_a_list(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(source_module.PACKAGES, "memory", "fsspec")

    def opened(*_: object, **__: object) -> Faulty:
        if fault == "opening":
            raise RuntimeError("the store's own words")
        return Faulty(most=1)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "open", opened)
    source = open_source("memory://bucket/list.txt?key=secret.txt")
    with pytest.raises(UserError) as caught:
        list(source.names())
    assert caught.value.code == "file-unreadable"
    assert "the store's own words" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_endless_line_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(source_module.PACKAGES, "memory", "fsspec")
    store = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(store, "open", lambda *_, **__: Faulty(most=40_000))
    with refused("list-invalid", "line 1"):
        list(open_source("memory://bucket/list.txt").names())
