"""ONNX Runtime for browsers: where it may come from, and what is refused."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from hrpose.site import runtime
from refusals import refused

CONTENTS = {name: f"the content of {name}".encode() for name in runtime.FILES}


def packed(files: dict[str, bytes], link: str = "") -> bytes:
    """The .tgz of a package; `link` is a file that is a link instead."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in {"README.md": b"words", **files}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            if name == link:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


PACKAGE = packed(CONTENTS)


def integrity(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@pytest.fixture(autouse=True)
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small package in place of the real one, and an empty cache."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(runtime, "FILES", sums)
    monkeypatch.setattr(runtime, "INTEGRITY", integrity(PACKAGE))
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))


def put(folder: Path, contents: dict[str, bytes] = CONTENTS) -> None:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An npm that runs this shell script, in the folder where the package is expected."""
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def check(builds: dict[str, runtime.Build]) -> None:
    for device, (module, binary) in runtime.DEVICES.items():
        assert builds[device].module == CONTENTS[module]
        assert gzip.decompress(builds[device].binary_gz) == CONTENTS[binary]


@pytest.mark.parametrize("inner", ["dist", "node_modules/onnxruntime-web/dist", "."])
def test_a_folder_with_the_package(tmp_path: Path, inner: str) -> None:
    put(tmp_path / "given" / inner)
    check(runtime.builds(tmp_path / "given"))
    assert not (tmp_path / "home").exists()


def test_the_package_that_npm_pack_writes(tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(PACKAGE)
    check(runtime.builds(tmp_path / "package.tgz"))


def test_folders_without_the_package_are_refused(tmp_path: Path) -> None:
    with refused("runtime-unsuitable", str(tmp_path), "npm pack onnxruntime-web@"):
        runtime.builds(tmp_path)
    name = next(iter(CONTENTS))
    put(tmp_path / "dist", {**CONTENTS, name: b"of another version"})
    with refused("runtime-unsuitable", name, "npm pack onnxruntime-web@"):
        runtime.builds(tmp_path)


def test_other_packages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(packed({**CONTENTS, "more.js": b"more"}))
    with refused("hash-differs", "package.tgz"):
        runtime.builds(tmp_path / "package.tgz")


def test_links_in_a_package_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(CONTENTS))
    content = packed(CONTENTS, link=name)
    (tmp_path / "package.tgz").write_bytes(content)
    monkeypatch.setattr(runtime, "INTEGRITY", integrity(content))
    with refused("runtime-unsuitable", name):
        runtime.builds(tmp_path / "package.tgz")


def test_unpacking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package.tgz").write_bytes(PACKAGE)
    monkeypatch.setattr(runtime, "_MAX_FILE", 10)
    with refused("runtime-unsuitable"):
        runtime.builds(tmp_path / "package.tgz")


def test_without_npm_the_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with refused("npm-missing", "--runtime"):
        runtime.builds()


def test_npm_fetches_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package.tgz").write_bytes(PACKAGE)
    npm(tmp_path, monkeypatch, f'test "$1" = pack && cp {tmp_path}/package.tgz .')
    check(runtime.builds())
    npm(tmp_path, monkeypatch, "exit 1")
    check(runtime.builds())
    # A damaged cache is filled again.
    module, _ = runtime.DEVICES["wasm"]
    (kept,) = (tmp_path / "home").rglob(module)
    kept.write_bytes(b"damaged")
    with refused("download-failed"):
        runtime.builds()


def test_the_reason_of_npm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, 'echo "npm error code ENOTFOUND" >&2; exit 1')
    with refused("download-failed", "ENOTFOUND", "--runtime"):
        runtime.builds()


def test_what_npm_brings_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, monkeypatch, "echo something else > onnxruntime-web.tgz")
    with refused("hash-differs"):
        runtime.builds()
    assert not (tmp_path / "home").exists()
