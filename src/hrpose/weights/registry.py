"""The table of released weights (addresses, scores, hashes), and where weights are on this machine.

Addresses, scores and hashes are those that the publishers state. A file is checked by its sha256,
or by the first eight digits of it, which MMPose writes into the name of every file it publishes.
"""

import hashlib
import math
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from hrpose.codec import Codec, sigma_for
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models.networks import NETWORKS, state_shapes
from hrpose.skeletons import COCO_17, MPII_16

Kind = Literal["pose", "backbone", "detector"]


@dataclass(frozen=True, slots=True)
class Released:
    """One published file.

    `source` is the project that published it. `addresses` are tried one after the other; the file
    must have `sha256`, the whole hash or its first digits. `score` is the publishers' own, of the
    `metric`, under the conditions `measured`. `metadata` are those of pose models. `parameters` are
    stated where they do not follow from it, and `recommended` says what for.
    """

    name: str
    kind: Kind
    addresses: tuple[str, ...]
    sha256: str
    license: str
    source: str
    score: float | None
    metric: str
    measured: str
    metadata: Metadata | None = None
    parameters: int | None = None
    recommended: str = ""

    @property
    def file_name(self) -> str:
        return urlsplit(self.addresses[0]).path.rpartition("/")[2]

    @property
    def megabytes(self) -> float | None:
        """About the size of the file: four bytes for each parameter. None where it is unknown."""
        count = self.parameters
        if self.metadata is not None:
            shapes = state_shapes(NETWORKS[self.metadata.network], self.metadata.channels)
            count = sum(map(math.prod, shapes.values()))
        return None if count is None else count * 4 / 1e6

    @property
    def facts(self) -> str:
        """What to know before a download: size, score and license, on one line."""
        size = "size unknown" if self.megabytes is None else f"about {self.megabytes:.0f} MB"
        score = [] if self.score is None else [f"published {self.metric} {self.score:.3f}"]
        return ", ".join([size, *score, f"license {self.license}"])


_MMPOSE = "https://download.openmmlab.com/mmpose"
_V0 = f"{_MMPOSE}/top_down/hrnet"
_V1 = f"{_MMPOSE}/v1/body_2d_keypoint/topdown_heatmap/coco"
_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
_W48_SMALL = "b9e0b3ab0439cb68e166c7543e59d2587cd8d7e9acf5ea62a8378eeb82fb50e5"
_WHOLE_SHA256 = {_W48_SMALL[:8]: _W48_SMALL}
# MMPose's server was unreachable for days; a mirror can serve nothing else than the right hash.
_MIRRORS = {
    _W48_SMALL: (
        "https://huggingface.co/spaces/fffiloni/mmpose-estimation/resolve/main/"
        "hrnet_w48_coco_256x192-b9e0b3ab_20200708.pth",
    )
}
# Copies of the authors' files, for which the authors have no direct address.
_OFFICIAL = "https://huggingface.co/Prophetetc/cocopose/resolve/main"
_OFFICIAL_LICENSE = "MIT (the paper's authors); trained on {}, whose images have their own terms"
_MMPOSE_LICENSE = "Apache-2.0 (MMPose); trained on {}, whose images have their own terms"


def _sha256(address: str) -> str:
    """The whole hash if it is known, else the part in the name: ...-c78dce93_20200708.pth."""
    prefix = address.rpartition("-")[2].partition("_")[0].partition(".")[0]
    return _WHOLE_SHA256.get(prefix, prefix)


# The best choice for each purpose, by published scores.
_RECOMMENDED = {
    "w32-coco-256x192-udp": "most uses",
    "w48-coco-384x288-udp": "highest AP",
    "w32-mpii-256x256-dark": "MPII",
    "yolox-s": "person boxes",
}

# Keypoints, metric, training data and conditions of the published scores.
_DATA = {
    "coco": (
        COCO_17,
        "COCO AP",
        "COCO train2017",
        "AP on COCO val2017, boxes of a detector with person AP 56.4, flip test",
    ),
    "mpii": (MPII_16, "MPII PCKh", "MPII", "PCKh@0.5 on MPII val, flip test"),
}


def _pose(
    data: str,
    network: str,
    input_wh: tuple[int, int],
    codec: str,
    score: float,
    address: str,
    official_sha256: str = "",
) -> Released:
    """A pose model: MMPose's, or that of the paper's authors if `official_sha256` is given."""
    skeleton, metric, trained_on, measured = _DATA[data]
    width, height = input_wh
    ending = "-official" if official_sha256 else "" if codec == "gaussian" else f"-{codec}"
    name = f"{network}-{data}-{height}x{width}{ending}"
    sha256 = official_sha256 or _sha256(address)
    source = "HRNet" if official_sha256 else "MMPose"
    license = (_OFFICIAL_LICENSE if official_sha256 else _MMPOSE_LICENSE).format(trained_on)
    metadata = Metadata(
        network=network,
        input_wh=input_wh,
        skeleton=skeleton,
        codec=Codec(codec, sigma_for(input_wh)),
        name=name,
        training_data=f"{trained_on}, by {source}",
        license=license,
        scores={f"published {measured}": score},
    )
    addresses = (address, *_MIRRORS.get(sha256, ()))
    return Released(
        name,
        "pose",
        addresses,
        sha256,
        license,
        source,
        score,
        metric,
        measured,
        metadata,
        recommended=_RECOMMENDED.get(name, ""),
    )


def _backbone(network: str, file_name: str) -> Released:
    return Released(
        f"{network}-imagenet",
        "backbone",
        (f"{_MMPOSE}/pretrain_models/{file_name}",),
        _sha256(file_name),
        _OFFICIAL_LICENSE.format("ImageNet"),
        "HRNet",
        None,
        "",
        "a start for training",
    )


def _yolox(size: str, ap: float, parameters: int, sha256: str) -> Released:
    name = f"yolox-{size}"
    return Released(
        name,
        "detector",
        (f"{_YOLOX}/yolox_{size}.onnx",),
        sha256,
        "Apache-2.0 (Megvii); trained on COCO, whose images have their own terms",
        "Megvii",
        ap,
        "COCO box AP",
        "box AP of all 80 classes on COCO val2017",
        parameters=parameters,
        recommended=_RECOMMENDED.get(name, ""),
    )


def _rows() -> tuple[Released, ...]:
    small, large, square = (192, 256), (288, 384), (256, 256)
    return (
        _pose(
            "coco",
            "w32",
            small,
            "gaussian",
            0.744,
            f"{_OFFICIAL}/pose_hrnet_w32_256x192.pth",
            "19bc083708bb8d873211e50d85d56344c10290c6e8b564c813fdde09645c4c1c",
        ),
        _pose(
            "coco",
            "w48",
            large,
            "gaussian",
            0.763,
            f"{_OFFICIAL}/pose_hrnet_w48_384x288.pth",
            "95e0fec3194826d5e3f806ea89be68bbb84517b114c3a32b3058c56610b5ef61",
        ),
        *(
            _pose("coco", network, size, "gaussian", ap, f"{_V0}/hrnet_{network}_coco_{run}.pth")
            for network, size, ap, run in (
                ("w32", small, 0.746, "256x192-c78dce93_20200708"),
                ("w32", large, 0.760, "384x288-d9f0d786_20200708"),
                ("w48", small, 0.756, "256x192-b9e0b3ab_20200708"),
                ("w48", large, 0.767, "384x288-314c8528_20200708"),
            )
        ),
        *(
            _pose(
                "coco", network, size, codec, ap, f"{_V1}/td-hm_hrnet-{network}_{codec}-{run}.pth"
            )
            for network, size, codec, ap, run in (
                ("w32", small, "dark", 0.757, "8xb64-210e_coco-256x192-0e00bf12_20220914"),
                ("w32", large, "dark", 0.766, "8xb64-210e_coco-384x288-9bab4c9b_20220917"),
                ("w48", small, "dark", 0.764, "8xb32-210e_coco-256x192-e1ebdd6f_20220913"),
                ("w48", large, "dark", 0.772, "8xb32-210e_coco-384x288-39c3c381_20220916"),
                ("w32", small, "udp", 0.762, "8xb64-210e_coco-256x192-73ede547_20220914"),
                ("w32", large, "udp", 0.768, "8xb64-210e_coco-384x288-9a3f7c85_20220914"),
                ("w48", small, "udp", 0.768, "8xb32-210e_coco-256x192-3feaef8f_20220913"),
                ("w48", large, "udp", 0.773, "8xb32-210e_coco-384x288-70d7ab01_20220913"),
            )
        ),
        *(
            _pose("mpii", network, square, codec, pckh, f"{_V0}/hrnet_{network}_mpii_{run}.pth")
            for network, codec, pckh, run in (
                ("w32", "gaussian", 0.900, "256x256-6c4f923f_20200812"),
                ("w48", "gaussian", 0.901, "256x256-92cab7bd_20200812"),
                ("w32", "dark", 0.904, "256x256_dark-f1601c5b_20200927"),
                ("w48", "dark", 0.905, "256x256_dark-0decd39f_20200927"),
            )
        ),
        _backbone("w32", "hrnet_w32-36af842e.pth"),
        _backbone("w48", "hrnet_w48-8ef0771d.pth"),
        _yolox(
            "nano",
            0.258,
            910_000,
            "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
        ),
        _yolox(
            "tiny",
            0.328,
            5_060_000,
            "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7",
        ),
        _yolox(
            "s",
            0.405,
            9_000_000,
            "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063",
        ),
    )


RELEASED: dict[str, Released] = {row.name: row for row in _rows()}

# The weights inside the package: the default, and the fast ones.
EMBEDDED = ("w32-small", "w16-small")


def find(name_or_file: str | Path) -> Path:
    """The file of weights given by name or as a file. Raises UserError where there is none.

    Names are those inside the package, those of `hrpose weights list`, and `hf:owner/name@revision`
    for the Hugging Face Hub, whose files are downloaded if they are not in its cache.
    """
    name = str(name_or_file)
    if name in EMBEDDED:
        return Path(str(resources.files("hrpose.weights") / f"{name}.onnx"))
    path = Path(name_or_file)
    if path.is_file():
        return path
    if name.startswith("hf:"):
        from hrpose.weights.hub import HubName, fetch

        return fetch(HubName.parse(name))
    if name not in RELEASED:
        raise UserError(
            f"{name}: no such weights; expected a file (.onnx, .safetensors, .ckpt), "
            f"{', '.join(EMBEDDED)}, a name of `hrpose weights list`, or hf:owner/name",
            code="weights-unknown",
        )
    row = RELEASED[name]
    usable = usable_file(row)
    if not usable.is_file():
        raise UserError(
            f"{name}: not downloaded yet ({row.facts}); `hrpose weights download {name}` does that",
            code="weights-not-downloaded",
        )
    return _as_published(row) if usable == published_file(row) else usable


def find_start(name_or_file: str | Path) -> Path:
    """As `find`, the file that a training starts from.

    Of released pose models it is the one that was published: that which is run has no BatchNorm.
    """
    path = find(name_or_file)
    row = RELEASED.get(str(name_or_file))
    if row is None or path != usable_file(row):
        return path
    return _as_published(row) if published_file(row).is_file() else path


def _as_published(row: Released) -> Path:
    """The published file in the cache, verified. Raises UserError where it is another."""
    path = published_file(row)
    about = path.stat()
    if not _sha256_of(path, about.st_size, about.st_mtime_ns).startswith(row.sha256):
        raise UserError(
            f"{row.name}: {path} is not the published file, its sha256 is not {row.sha256}; "
            f"`hrpose weights download {row.name}` replaces it",
            code="hash-differs",
        )
    return path


@lru_cache(maxsize=64)
def _sha256_of(path: Path, _size: int, _modified: int) -> str:
    """The hash of a file, computed once while its size and time stay."""
    return file_sha256(path)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_here(name_or_file: str | Path | None) -> Released | None:
    """The row of the table, where these are released weights that `find` does not find yet."""
    row = RELEASED.get(str(name_or_file))
    if row is None or Path(row.name).is_file() or usable_file(row).is_file():
        return None
    return row


def home() -> Path:
    """The cache folder of hrpose: HRPOSE_HOME, or in the platform's folder for caches."""
    if given := os.environ.get("HRPOSE_HOME"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "hrpose"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/hrpose"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hrpose"


def published_file(row: Released) -> Path:
    """The path of the file in the cache, as its publishers made it."""
    return home() / "weights" / row.file_name


def usable_file(row: Released) -> Path:
    """The path of the file that hrpose runs: for pose models ONNX with metadata."""
    if row.kind == "pose":
        return home() / "weights" / f"{row.name}.onnx"
    return published_file(row)


def released(name: str) -> Released:
    """The row of the table. Raises UserError, naming those that exist."""
    if name not in RELEASED:
        raise UserError(
            f"{name}: no such released weights; expected one of {', '.join(RELEASED)}",
            code="weights-unknown",
        )
    return RELEASED[name]
