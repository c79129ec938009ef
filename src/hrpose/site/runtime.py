"""ONNX Runtime for browsers: its files from the npm package, checked, packed and kept in the cache.

It is not in this package, whose size it would triple. It comes through the user's own npm, from the
registry that it is configured for, or from a folder. Only the files of one version are accepted, by
their hashes: those that the page is tested with.
"""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrpose.errors import UserError
from hrpose.io import read_file, write_atomically
from hrpose.weights.registry import home

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# Of the package as it was published, in npm's notation.
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJm"
    "g8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
# The files that are used, with their sha256: for each device a module, and its WebAssembly.
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": (
        "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da"
    ),
}
DEVICES = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
LICENSE = f"""\
ONNX Runtime {VERSION} (npm package {PACKAGE}), https://onnxruntime.ai

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

# Bounds, well above what the package has: 33 MB packed, 145 MB unpacked, its largest file 28 MB.
_MAX_PACKED = 80_000_000
_MAX_UNPACKED = 400_000_000
_MAX_FILE = 50_000_000
_NPM_SECONDS = 900
_WITHOUT_NPM = (
    f"or fetch the package {PACKAGE} {VERSION} on another machine, and name it with --runtime"
)


@dataclass(frozen=True, slots=True)
class Build:
    """ONNX Runtime for one device: a JavaScript `module`, and its WebAssembly, gzipped."""

    module: bytes
    binary_gz: bytes


def builds(folder: Path | None = None) -> dict[str, Build]:
    """ONNX Runtime for "wasm" and "webgpu": from `folder`, else from the cache, else through npm.

    `folder` is the unpacked package, one that has it in node_modules, or the .tgz of `npm pack`.
    Raises UserError where files are missing or others, and where npm is missing or fails.
    """
    if folder is not None:
        given = _from_package(folder) if folder.is_file() else _from_folder(folder)
        return _built(_checked(given, folder))
    if (kept := cached()) is None:
        kept = _built(_checked(_from_npm(), PACKAGE))
        for device, build in kept.items():
            module, binary = DEVICES[device]
            write_atomically(_cache() / module, build.module)
            write_atomically(_cache() / f"{binary}.gz", build.binary_gz)
    return kept


def _cache() -> Path:
    return home() / "runtime" / f"{PACKAGE}-{VERSION}"


def _built(files: Mapping[str, bytes]) -> dict[str, Build]:
    return {
        device: Build(files[module], gzip.compress(files[binary], 9, mtime=0))
        for device, (module, binary) in DEVICES.items()
    }


def _checked(files: Mapping[str, bytes], where: object) -> Mapping[str, bytes]:
    """Raises UserError where a file is not the published one."""
    for name, sha256 in FILES.items():
        if name not in files:
            raise UserError(
                f"{where}: expected the npm package {PACKAGE} {VERSION}, found no {name}; "
                f"`npm pack {PACKAGE}@{VERSION}` fetches it",
                code="runtime-unsuitable",
            )
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            raise UserError(
                f"{where}: expected the files of {PACKAGE} {VERSION}, found another {name}; "
                f"`npm pack {PACKAGE}@{VERSION}` fetches them",
                code="runtime-unsuitable",
            )
    return files


def cached() -> dict[str, Build] | None:
    """The builds in the cache; None where a file is missing or damaged."""
    cache = _cache()
    try:
        kept = {
            device: Build(
                read_file(cache / module, _MAX_FILE), read_file(cache / f"{binary}.gz", _MAX_FILE)
            )
            for device, (module, binary) in DEVICES.items()
        }
        files = {}
        for device, (module, binary) in DEVICES.items():
            files[module] = kept[device].module
            unpack = zlib.decompressobj(wbits=31)
            files[binary] = unpack.decompress(kept[device].binary_gz, _MAX_FILE)
        _checked(files, cache)
    except (UserError, zlib.error):
        return None
    return kept


def _from_folder(folder: Path) -> dict[str, bytes]:
    """The files of the package in a folder. Raises UserError where it is not there."""
    for inner in ("dist", ".", f"{PACKAGE}/dist", f"node_modules/{PACKAGE}/dist", "package/dist"):
        if all((folder / inner / name).is_file() for name in FILES):
            return {name: read_file(folder / inner / name, _MAX_FILE) for name in FILES}
    raise UserError(
        f"{folder}: expected the npm package {PACKAGE} {VERSION}, found none; name the folder that "
        f"has its dist, or the .tgz that `npm pack {PACKAGE}@{VERSION}` writes",
        code="runtime-unsuitable",
    )


def _from_npm() -> dict[str, bytes]:
    """The files of the package, fetched by npm. Raises UserError where it is missing or fails."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"npm: not found; it fetches ONNX Runtime for browsers once; install it (nodejs.org), "
            f"{_WITHOUT_NPM}",
            code="npm-missing",
        )
    name = f"{PACKAGE}@{VERSION}"
    with tempfile.TemporaryDirectory(prefix="hrpose-") as folder:
        command = [npm, "pack", name, "--pack-destination", folder, "--json", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=_NPM_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _npm_failed(str(error)) from error
        if done.returncode:
            raise _npm_failed(_reason(done.stderr.decode(errors="replace")))
        packages = list(Path(folder).glob("*.tgz"))
        if len(packages) != 1:
            raise _npm_failed(f"it wrote {len(packages)} packages")
        return _from_package(packages[0])


def _reason(output: str) -> str:
    """What npm says is wrong: its errors, without the name of its log."""
    errors = [
        line.removeprefix("npm error ").strip()
        for line in output.splitlines()
        if line.startswith("npm error ") and "log" not in line
    ]
    return ", ".join(errors[:2]) or "no reason given"


def _npm_failed(reason: str) -> UserError:
    return UserError(
        f"npm pack {PACKAGE}@{VERSION}: failed ({reason}); check the connection and npm's "
        f"settings, {_WITHOUT_NPM}",
        code="download-failed",
    )


def _from_package(path: Path) -> dict[str, bytes]:
    """The files in the .tgz of the package. Raises UserError where it is another one."""
    content = read_file(path, _MAX_PACKED)
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != INTEGRITY:
        raise UserError(
            f"{path.name}: expected {PACKAGE} {VERSION} with the integrity {INTEGRITY[:20]}..., "
            f"found {found[:20]}...; `npm pack {PACKAGE}@{VERSION}` fetches it",
            code="hash-differs",
        )
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.removeprefix("package/dist/")
                if member.offset_data + member.size > _MAX_UNPACKED:
                    break
                if name in FILES and member.isreg() and member.size <= _MAX_FILE:
                    stream = archive.extractfile(member)
                    files[name] = b"" if stream is None else stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path.name}: damaged ({error}); fetch it again", code="runtime-unsuitable"
        ) from error
    return files
