"""The folder that `hrpose site` writes: the page of the server, with the models beside it.

    index.html            the page of `hrpose serve`
    service-worker.js     keeps the files for use without a network, and isolates the page
    site.json             what the weights say of themselves, and heatmaps to compare with
    page/                 the modules of both pages; `server.js` is the one that needs no server
    models/               the pose model and the person detector, as they are
    runtime/              ONNX Runtime for browsers: WebAssembly, and WebGPU

All addresses are relative, so that any host serves the folder, under any path.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from hrpose._version import __version__
from hrpose.data.dataset_folder import must_be_new
from hrpose.detection.person_detector import builtin_file, open_detector
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.geometry import Crop
from hrpose.image import read_image
from hrpose.io import MAX_MODEL_BYTES, read_file, write_atomically
from hrpose.metadata import DetectorMetadata, Metadata, check_weights, metadata_of
from hrpose.poses import MIN_SCORE, THRESHOLD
from hrpose.session import open_session
from hrpose.site.runtime import DEVICES, LICENSE, VERSION, Build, builds
from hrpose.viz import details, keypoint_colors, limb_colors

POSE, DETECTOR = "models/pose.onnx", "models/detector.onnx"
# The image whose heatmaps a browser compares with those of Python, before it shows its own.
_CHECKED = "page/examples/walking.jpg"
_EVERY = 97  # of the heatmaps' values, which makes some hundreds
# Of the server's page what only a server has.
_OF_SERVER = ("docs.html", "docs.js", "server.js")
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'"
)
# What the service worker adds to the host's headers: threads need the first two.
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Of the metadata, what a browser needs.
_POSE_KEYS = ("input_wh", "padding", "codec", "calibration", "skeleton")
_DETECTOR_KEYS = ("side", "threshold", "confidence")


def write_site(
    out: Path,
    weights: Path,
    detector: Path | None,
    runtime: Path | None = None,
    *,
    webgpu: bool = True,
    overwrite: bool = False,
) -> int:
    """Write the folder `out`; returns the number of bytes of its files.

    `weights` and `detector` are ONNX files with metadata of hrpose; without a detector each image
    is the box of one person. `runtime` is that of `hrpose.site.runtime.builds`, whose build for
    `webgpu` may be left out. Raises UserError where a file is of another kind, and where `out` has
    other files; an earlier site is replaced with `overwrite`.
    """
    earlier = (out / "site.json").is_file()
    if earlier and not overwrite:
        raise UserError(
            f"{out}: has a site already; --overwrite replaces it", code="folder-not-empty"
        )
    if not earlier:
        must_be_new(out)
    models = _models(weights, detector)
    chosen = {name: build for name, build in builds(runtime).items() if webgpu or name == "wasm"}
    files = {**_page(), **models, **_runtime(chosen)}
    files["site.json"] = json.dumps(
        _description(weights, detector, files), ensure_ascii=False, separators=(",", ":")
    ).encode()
    worker = files.pop("service-worker.js")
    for name, content in files.items():
        write_atomically(out / name, content)
    # The last: with it, browsers that have an earlier site change to this one.
    worker = _service_worker(worker, files)
    write_atomically(out / "service-worker.js", worker)
    return sum(map(len, files.values())) + len(worker)


def about(metadata: Metadata) -> dict[str, Any]:
    """What pages show of a pose model, and what they draw its poses with."""
    skeleton = metadata.skeleton
    return {
        "name": metadata.title,
        "network": metadata.network,
        "input_width": metadata.input_wh[0],
        "input_height": metadata.input_wh[1],
        "keypoints": list(skeleton.keypoints),
        "limbs": list(skeleton.limbs),
        "flip_pairs": list(skeleton.flip_pairs),
        "keypoint_colors": keypoint_colors(skeleton),
        "limb_colors": limb_colors(skeleton),
        "details": details(skeleton),
        "codec": metadata.codec.name,
        "training_data": metadata.training_data,
        "license": metadata.license,
        "scores": dict(metadata.scores),
    }


def _page() -> dict[str, bytes]:
    """The files of the page: those of the server's, with those of this package over them."""
    served, own = (resources.files(f"hrpose.{name}") / "page" for name in ("serve", "site"))
    parts = [served / "examples", served, own]
    names = ("page/examples/", "page/", "page/")
    files = {
        name + file.name: file.read_bytes()
        for name, folder in zip(names, parts, strict=True)
        for file in folder.iterdir()
        if file.is_file() and not (folder is served and file.name in _OF_SERVER)
    }
    html = files.pop("page/index.html").decode()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    for old, new in (
        ('<html lang="en">', '<html lang="en" data-runs="browser">'),
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n  {policy}'),
    ):
        assert html.count(old) == 1, old
        html = html.replace(old, new)
    worker = files.pop("page/service-worker.js")
    return {**files, "index.html": html.encode(), "service-worker.js": worker}


def _models(weights: Path, detector: Path | None) -> dict[str, bytes]:
    files = {}
    for name, path in ((POSE, weights), (DETECTOR, detector)):
        if path is None:
            continue
        if path.suffix != ".onnx":
            raise UserError(
                f"{path}: expected an ONNX file, which browsers can run; `hrpose export` writes "
                "one",
                code="weights-unsuitable",
            )
        check_weights(path)
        files[name] = read_file(path, MAX_MODEL_BYTES)
    return files


def _runtime(chosen: Mapping[str, Build]) -> dict[str, bytes]:
    files = {"runtime/LICENSE.txt": LICENSE.encode()}
    for device, build in chosen.items():
        module, binary = _names(device)
        files |= {module: build.module, binary: build.binary_gz}
    return files


def _names(device: str) -> tuple[str, str]:
    """The module and the WebAssembly in the folder. Hosts know .js better than .mjs."""
    module, binary = DEVICES[device]
    return f"runtime/{Path(module).stem}.js", f"runtime/{binary}.gz"


def _description(
    weights: Path, detector: Path | None, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """What the page reads of the models and of ONNX Runtime."""

    def model(name: str, metadata: Metadata | DetectorMetadata, keys: tuple[str, ...]) -> Any:
        every = json.loads(metadata.to_json())
        needed = {key: every[key] for key in keys if key in every}
        return {"file": name, "bytes": len(files[name]), "metadata": needed}

    pose = metadata_of(weights, Metadata)
    runtime: dict[str, Any] = {"version": VERSION}
    for device in DEVICES:
        module, binary = _names(device)
        if module in files:
            size = len(files[binary])
            runtime[device] = {"module": module, "binary": binary, "bytes": size}
    found = None if detector is None else metadata_of(detector, DetectorMetadata)
    return {
        "version": __version__,
        "about": about(pose),
        "pose": model(POSE, pose, _POSE_KEYS),
        "scores": {"pose": MIN_SCORE, "keypoint": THRESHOLD},
        "detector": None if found is None else model(DETECTOR, found, _DETECTOR_KEYS),
        "runtime": runtime,
        "check": _check(weights, detector, files[_CHECKED]),
    }


def _check(weights: Path, detector: Path | None, image: bytes) -> dict[str, Any]:
    """A crop of an image of the page, and every `_EVERY`-th value of its heatmaps."""
    opened = open_detector("full-image" if detector is None else detector, device="cpu")
    session = open_session(weights, device="cpu", precision="fp32")
    estimator = PoseEstimator(session, detector=opened, exact=True)
    pixels = read_image(image)
    boxes = estimator.image(pixels).boxes
    box = boxes[0] if len(boxes) else np.array([0, 0, *pixels.shape[1::-1]], np.float64)
    box = box.round(2)
    crop: Crop = estimator.metadata.crop(box)
    cut = estimator.image(pixels, [box]).cut(crop)
    values = estimator.heatmaps(cut[None]).ravel()[::_EVERY]
    return {
        "image": _CHECKED,
        "box": box.tolist(),
        "every": _EVERY,
        "values": [round(value, 4) for value in values.tolist()],
    }


def _service_worker(script: bytes, files: Mapping[str, bytes]) -> bytes:
    """The service worker of these files; models and ONNX Runtime are kept when they are used."""
    build = hashlib.sha256()
    for name, content in sorted(files.items()):
        build.update(f"{name}\n{len(content)}\n".encode() + content)
    kept = ["./", *(name for name in files if not name.startswith(("models/", "runtime/")))]
    text = script.decode()
    for key, value in (
        ("BUILD", build.hexdigest()[:16]),
        ("FILES", sorted(set(kept) - {"index.html"})),
        ("HEADERS", _HEADERS),
    ):
        text = text.replace(f'"__{key}__"', json.dumps(value))
    return text.encode()


def detector_of(name: str) -> Path | None:
    """The file of a detector that browsers can run; None for `none`.

    Raises UserError for detectors that need more than ONNX Runtime and this page.
    """
    if name in ("none", "full-image"):
        return None
    path = builtin_file() if name in ("builtin", "auto") else Path(name)
    metadata_of(path, DetectorMetadata)
    return path
