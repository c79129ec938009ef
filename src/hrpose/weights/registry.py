"""The table of released weights, `released.csv`, and where weights are on this machine.

Names, addresses, scores and licenses are those that the publishers state: MMPose in its model zoo
(the metafiles beside its configurations; 0.x for macaques), the paper's authors and Megvii in their
README. A file is checked by its sha256, or by the first eight digits of it, which MMPose writes
into the name of every file.
"""

import csv
import difflib
import hashlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from hrpose.codec import Codec
from hrpose.errors import UserError
from hrpose.metadata import Metadata, metadata_of
from hrpose.models.forward import state_shapes
from hrpose.models.networks import NETWORKS
from hrpose.skeletons import SHIPPED

Kind = Literal["pose", "backbone", "detector"]


@dataclass(frozen=True, slots=True)
class Released:
    """One published file.

    `source` is the project that published it. `addresses` are tried one after the other; the file
    must have `sha256`, the whole hash or its first digits. `score` is the publishers' own, of the
    `metric`, under the conditions `measured`. `metadata` are those of pose models. `parameters` are
    stated where they do not follow from it, `recommended` says what for, and `config` is the name
    of the publishers' configuration.
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
    config: str = ""

    @property
    def file_name(self) -> str:
        return urlsplit(self.addresses[0]).path.rpartition("/")[2]

    @property
    def aliases(self) -> tuple[str, ...]:
        """The publishers' names: the configuration's, and the file's, with and without its ending.

        MMPose 0.x calls a configuration like its file, without hash and date.
        """
        stem = self.file_name.rpartition(".")[0]
        undated = stem.rpartition("-")[0] if self.source == "MMPose" else ""
        return tuple(filter(None, dict.fromkeys((self.config, undated, stem, self.file_name))))

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
        score = [] if self.score is None else [f"published {self.metric} {digits(self.score)}"]
        return ", ".join([size, *score, f"license {self.license}"])


def digits(score: float) -> str:
    """A published score as text; errors of a few percent have a digit more."""
    return f"{score:.3f}" if score >= 0.1 else f"{score:.4f}"


_LICENSES = {
    "HRNet": "MIT (the paper's authors)",
    "MMPose": "Apache-2.0 (MMPose)",
    "Megvii": "Apache-2.0 (Megvii)",
}

_COCO_AP = "published AP on COCO val2017, boxes of a detector with person AP 56.4, flip test"

# A mirror of the Hugging Face Hub: the same files at the same paths.
_HUB, _HUB_MIRROR = "https://huggingface.co/", "https://hf-mirror.com/"


def _table(name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("hrpose.weights") / f"{name}.csv").read_text("utf-8")
    return csv.DictReader(text.splitlines())


def _rows() -> Iterator[Released]:
    data_sets = {each["data"]: each for each in _table("data_sets")}
    for row in _table("released"):
        yield _released(row, data_sets[row["data"]])


def _released(row: dict[str, str], data: dict[str, str]) -> Released:
    """A row of `released.csv`, and that of `data_sets.csv` to which it belongs.

    `input` is width x height, `coco_ap` a second score, of models whose `score` is measured
    elsewhere. `copies` are other addresses of the same file, separated by blanks: where others
    keep one, and where MMPose's own model zoo of 2020 had it. `recommended` are the best for each
    purpose, by published scores. `trained_on`, `metric` and `measured` belong to all rows of a data
    set, and so does the skeleton.
    """
    license, address = _LICENSES[row["source"]], row["address"]
    license += f"; trained on {data['trained_on']}, whose images have their own terms"
    addresses = [address, *row["copies"].split()]
    addresses += [each.replace(_HUB, _HUB_MIRROR) for each in addresses if each.startswith(_HUB)]
    # MMPose's names end like ...-c78dce93_20200708.pth.
    prefix = address.rpartition("-")[2].partition("_")[0].partition(".")[0]
    metadata = None
    if row["kind"] == "pose":
        width, height = (int(side) for side in row["input"].split("x"))
        scores = {f"published {data['measured']}": float(row["score"])}
        if row["coco_ap"]:
            scores[_COCO_AP] = float(row["coco_ap"])
        metadata = Metadata(
            network=row["network"],
            input_wh=(width, height),
            skeleton=SHIPPED[data["skeleton"]],
            codec=Codec(row["codec"], float(row["sigma"])),
            name=row["name"],
            training_data=f"{data['trained_on']}, by {row['source']}",
            license=license,
            scores=scores,
        )
    return Released(
        name=row["name"],
        kind=cast("Kind", row["kind"]),
        addresses=tuple(addresses),
        sha256=row["sha256"] or prefix,
        license=license,
        source=row["source"],
        score=float(row["score"]) if row["score"] else None,
        metric=data["metric"],
        measured=data["measured"],
        metadata=metadata,
        parameters=int(row["parameters"]) if row["parameters"] else None,
        recommended=row["recommended"],
        config=row["config"],
    )


RELEASED: dict[str, Released] = {row.name: row for row in _rows()}

# The weights inside the package, the default first: their AP on `SUBSET` (docs/models), and what
# they are best for.
INSIDE = (("w32-small", 0.471, "a first try"), ("w16-small", 0.354, "speed"))
SUBSET = "98 images of COCO val2017"
EMBEDDED = tuple(name for name, *_ in INSIDE)


def find(name_or_file: str | Path) -> Path:
    """The file of weights given by name or as a file. Raises UserError where there is none.

    Names are those inside the package, those of `hrpose weights list` and the publishers' names of
    the same (see `lookup`), and `hf:owner/name@revision` for the Hugging Face Hub, whose files are
    downloaded if they are not in its cache.
    """
    if not isinstance(name_or_file, str | os.PathLike):
        raise UserError(
            f"weights: expected a name or a file, found {type(name_or_file).__name__}",
            code="weights-unknown",
        )
    name = str(name_or_file)
    if name in EMBEDDED:
        return Path(str(resources.files("hrpose.weights") / f"{name}.onnx"))
    path = Path(name_or_file)
    if path.is_file():
        return path
    if name.startswith("hf:"):
        from hrpose.weights.hub import HubName, fetch

        return fetch(HubName.parse(name))
    row = lookup(name)
    if row is None:
        raise UserError(
            f"{name}: no such weights; expected a file (.onnx, .safetensors, .ckpt), "
            f"{', '.join(EMBEDDED)}, a name of `hrpose weights list`, or hf:owner/name"
            f"{_alike(name)}",
            code="weights-unknown",
        )
    usable = usable_file(row)
    if not usable.is_file():
        raise UserError(
            f"{name}: not downloaded yet ({row.facts}); `hrpose weights download {row.name}` does "
            "that",
            code="weights-not-downloaded",
        )
    return _as_published(row) if usable == published_file(row) else usable


def find_start(name_or_file: str | Path) -> Path:
    """As `find`, the file that a training starts from.

    Of released pose models it is the one that was published: that which is run has no BatchNorm.
    """
    path = find(name_or_file)
    row = lookup(str(name_or_file))
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
    row = None if name_or_file is None else lookup(str(name_or_file))
    if row is None or Path(str(name_or_file)).is_file() or usable_file(row).is_file():
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


def lookup(name: str) -> Released | None:
    """The row of the table with this name, or one that its publishers use; None without one.

    MMPose's and the official names of configurations (td-hm_hrnet-w32_8xb64-210e_coco-256x192, also
    as a path that ends in .py or .yaml) and of files (pose_hrnet_w32_256x192.pth, with and without
    the ending).
    """
    path = PurePosixPath(name.replace("\\", "/"))
    name = path.stem if path.suffix in (".py", ".yaml", ".yml") else name
    return RELEASED.get(name) or RELEASED.get(_aliases().get(name, ""))


@cache
def _aliases() -> dict[str, str]:
    """The publishers' names, and those of the table that they mean."""
    return {alias: row.name for row in RELEASED.values() for alias in row.aliases}


def released(name: str) -> Released:
    """As `lookup`. Raises UserError where there is no such row, naming those alike."""
    row = lookup(name)
    if name in EMBEDDED:
        raise UserError(
            f"{name}: inside the package, which needs no download; expected released weights",
            code="weights-unknown",
        )
    if row is None:
        raise UserError(
            f"{name}: no such released weights; `hrpose weights list` has the names{_alike(name)}",
            code="weights-unknown",
        )
    return row


def _alike(name: str) -> str:
    """The names most like this one, as a part of a message; empty without one."""
    known = (*EMBEDDED, *RELEASED, *_aliases())
    close = difflib.get_close_matches(name, known, n=2)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def listed(word: str = "") -> Iterator[dict[str, Any]]:
    """The facts of all weights that a name stands for, as JSON: those inside, then released ones.

    Only those with `word` in one of their names, in any case. Raises UserError where there is none.
    """
    found = False
    for facts in (*_inside(), *map(_facts, RELEASED.values())):
        if any(word.lower() in name.lower() for name in (facts["name"], *facts["aliases"])):
            found = True
            yield facts
    if not found:
        raise UserError(
            f"{word}: in no name of weights; `hrpose weights list` has them all",
            code="weights-unknown",
        )


def _inside() -> Iterator[dict[str, Any]]:
    for name, score, recommended in INSIDE:
        metadata = metadata_of(find(name), Metadata)
        yield {
            "name": name,
            "kind": "pose",
            "megabytes": find(name).stat().st_size / 1e6,
            "score": score,
            "metric": "COCO AP",
            "measured": f"{SUBSET}, ground-truth boxes, flip test",
            "license": metadata.license,
            "here": "inside",
            "recommended_for": recommended,
            "aliases": (),
            **_described(metadata),
        }


def _facts(row: Released) -> dict[str, Any]:
    usable, there = usable_file(row).is_file(), published_file(row).is_file()
    return {
        "name": row.name,
        "kind": row.kind,
        "megabytes": row.megabytes,
        "score": row.score,
        "metric": row.metric,
        "measured": row.measured,
        "license": row.license,
        "source": row.source,
        "here": "yes" if usable else "not converted" if there else "",
        "recommended_for": row.recommended,
        "aliases": row.aliases,
        "addresses": row.addresses,
        "sha256": row.sha256,
        **({} if row.metadata is None else _described(row.metadata)),
    }


def _described(metadata: Metadata) -> dict[str, Any]:
    return {
        "network": metadata.network,
        "input_wh": metadata.input_wh,
        "skeleton": metadata.skeleton.name,
        "codec": metadata.codec.name,
        "training_data": metadata.training_data,
    }
