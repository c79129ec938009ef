"""Folders of `hrpose site`, and hosts of them: plain file servers, as any static host is one."""

import functools
import gzip
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hrpose.detection.person_detector import builtin_file
from hrpose.site import build, runtime
from hrpose.weights import find

# A build of ONNX Runtime that does nothing, for what needs none.
EMPTY = {name: runtime.Build(b"// empty", gzip.compress(b"empty")) for name in runtime.DEVICES}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """What `python -m http.server` runs, without its log."""

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a plain host of the folder."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a site without ONNX Runtime."""
    monkeypatch.setattr(build, "builds", lambda folder: EMPTY)

    def write(name: str = "site", weights: str = "w16-small", **options: Any) -> Path:
        build.write_site(tmp_path / name, find(weights), builtin_file(), **options)
        return tmp_path / name

    return write


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a host whose folder demo/ is a site with ONNX Runtime, and the folder."""
    if shutil.which("npm") is None and runtime.cached() is None:
        pytest.skip("needs npm, which fetches ONNX Runtime for browsers")
    folder = tmp_path_factory.mktemp("host")
    build.write_site(folder / "demo", find("w32-small"), builtin_file())
    with hosted(folder) as address:
        yield address, folder / "demo"
