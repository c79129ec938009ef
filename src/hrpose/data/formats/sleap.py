"""SLEAP: labels, which are read, and predictions on a clip, which are written.

Labels are .slp files, and packages (.pkg.slp), which hold their images too.

The file is HDF5. Its tables are `frames`, of which each has a range of `instances`, of which each
has a range of `points`; names, edges, symmetries and videos are JSON. Read are the instances that
persons labeled; those that a model predicted are left out. A point that is not visible is not
labeled. Before version 1.1 of the format pixels were counted from their corner.

The image of a frame is a file of the video, where the video is a list of images; that in the
package; or else CLIP/frame_000003.png, which has to be saved from the clip.
"""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose._version import __version__
from hrpose.data.formats.hdf5 import Hdf5, read_hdf5
from hrpose.data.formats.pose_set import (
    Keypoint,
    LabeledImage,
    Person,
    PoseSet,
    ReadOptions,
    image_name,
    invalid,
    json_list,
    json_object,
    keypoint_name,
    left_out,
    number,
    pose_set,
    size_wh,
    skeleton_of,
    unknown_category,
    whole_number,
)
from hrpose.data.images import ImageFiles
from hrpose.errors import UserError, missing
from hrpose.image import encode, read_image
from hrpose.skeleton import Skeleton
from hrpose.skeletons import SHIPPED

_MAX_KEYPOINTS = 1000
_SUFFIXES = (".png", ".jpg", ".jpeg")
_EDGE, _SYMMETRY = 1, 2
_FRAMES = ("video", "frame_idx", "instance_id_start", "instance_id_end")
# Each with the names of its keypoints in the file's order; a shipped one has its own.
_Skeletons = list[tuple[Skeleton, list[str]]]
_INSTANCES = ("instance_type", "skeleton", "point_id_start", "point_id_end")


class _Packaged(ImageFiles):
    """The images in a package, by names such as video0/frame_000003.png."""

    def __init__(self, path: Path, contents: Mapping[str, bytes]) -> None:
        self.path = path
        self._zip = None
        self._contents = contents

    def __contains__(self, name: str) -> bool:
        return name in self._contents

    def names(self) -> Iterator[str]:
        yield from self._contents

    def _bytes(self, name: str) -> tuple[bytes | Path, str]:
        return self._contents[name], f"{self.path}: {name}"


@dataclass(frozen=True, slots=True)
class _Video:
    """A video: its images' names by frame, else the stem of its clip and the size of a frame."""

    stem: str
    names: Mapping[int, str]
    size_wh: tuple[int, int] | None = None

    def name(self, frame: int, images: ImageFiles) -> str:
        if frame in self.names:
            return self.names[frame]
        names = [f"{self.stem}/frame_{frame:06d}{suffix}" for suffix in _SUFFIXES]
        return next((name for name in names if name in images), names[0])


def read(source: Path, options: ReadOptions) -> PoseSet:
    """Read a file. Raises UserError, naming the file and the entry."""
    return _read(read_hdf5(source), options)


def _read(file: Hdf5, options: ReadOptions) -> PoseSet:
    if "metadata" not in file:
        raise file.error("metadata", "SLEAP's labels", None)
    version = number(file.attribute("metadata", "format_id"), f"{file.path}: metadata: format_id")
    metadata = json_object(
        file.json("metadata", file.attribute("metadata", "json")), f"{file.path}: metadata"
    )
    skeletons = _skeletons(file.path, metadata)
    chosen = _chosen(file.path, skeletons, options.category)
    skeleton, names = skeletons[chosen]
    images = options.images or options.images_for(file.path)
    entries = [json_object(file.json("videos_json", text), f"{file.path}: videos_json")
               for text in file.texts("videos_json")]  # fmt: skip
    packaged: dict[str, bytes] = {}
    videos = [_video(file, row, entry, images, packaged) for row, entry in enumerate(entries)]
    lost = Counter[str]()
    persons: dict[tuple[int, int], list[Person]] = {}
    shift = 0.5 if version < 1.1 else 0.0
    for video, frame, person in _instances(file, chosen, len(skeletons), names, shift, lost):
        if not 0 <= video < len(videos):
            raise file.error("frames: video", f"a number below {len(videos)}", video)
        persons.setdefault((video, frame), []).append(person)
    if packaged and options.images is None:
        images = _Packaged(file.path, packaged)
    labeled = [
        LabeledImage(
            videos[video].name(frame, images),
            tuple(own),
            None if frame in videos[video].names else videos[video].size_wh,
            video=videos[video].stem,
        )
        for (video, frame), own in sorted(persons.items(), key=lambda item: item[0])
    ]
    notes = left_out(lost)
    clips = {videos[video].stem for video, frame in persons if frame not in videos[video].names}
    if clips and not all(image.name in images for image in labeled):
        stem = min(clips)
        notes.append(
            f"the frames of {len(clips)} clips are named {stem}/frame_000000.png and so on; save "
            f"them with: ffmpeg -i {stem}.mp4 -start_number 0 {stem}/frame_%06d.png"
        )
    return pose_set(
        file.path, labeled, options, images, skeleton, skeleton.name, notes, copied=bool(packaged)
    )


def _chosen(path: Path, skeletons: _Skeletons, wanted: str | None) -> int:
    names = [skeleton.category or skeleton.name for skeleton, _ in skeletons]
    if wanted is None and len(names) == 1:
        return 0
    if wanted not in names or names.count(wanted) > 1:
        raise unknown_category(f"{path}: skeletons", names)
    return names.index(wanted)


def _skeletons(path: Path, metadata: Mapping[str, Any]) -> _Skeletons:
    nodes = [
        keypoint_name(json_object(node, f"{path}: nodes").get("name"), f"{path}: nodes")
        for node in json_list(metadata.get("nodes"), f"{path}: nodes")
    ]
    if len(nodes) > _MAX_KEYPOINTS:
        raise invalid(f"{path}: nodes", f"at most {_MAX_KEYPOINTS} keypoints", len(nodes))
    found = []
    for row, entry in enumerate(json_list(metadata.get("skeletons"), f"{path}: skeletons")):
        where = f"{path}: skeleton {row}"
        entry = json_object(entry, where)
        ids = [
            whole_number(json_object(node, where).get("id"), f"{where}: nodes", 0, len(nodes) - 1)
            for node in json_list(entry.get("nodes"), f"{where}: nodes")
        ]
        names = [nodes[index] for index in ids]
        if not names or len(set(names)) != len(names):
            raise invalid(where, "keypoints, each once", names)
        graph = entry.get("graph")
        name = graph.get("name") if isinstance(graph, dict) else None
        name = keypoint_name(name or "animal", f"{where}: name")
        skeleton = skeleton_of(names, name)
        if skeleton not in SHIPPED.values():
            skeleton = _linked(skeleton, ids, json_list(entry.get("links"), where), where)
        found.append((skeleton, names))
    if not found:
        raise invalid(f"{path}: metadata", "a skeleton", None)
    return found


def _linked(skeleton: Skeleton, ids: list[int], links: list[Any], where: str) -> Skeleton:
    """The skeleton with its edges as limbs, and its symmetries where it has some."""
    known: list[int] = []
    pairs: dict[int, dict[tuple[int, int], None]] = {_EDGE: {}, _SYMMETRY: {}}
    for link in links:
        link = json_object(link, where)
        kind = _kind(link.get("type"), known)
        if kind not in pairs or link.get("source") not in ids or link.get("target") not in ids:
            raise invalid(f"{where}: links", "an edge or symmetry of two keypoints", str(link)[:80])
        a, b = ids.index(link["source"]), ids.index(link["target"])
        if a != b and (kind == _EDGE or (b, a) not in pairs[kind]):
            pairs[kind][a, b] = None
    sides = {frozenset(pair): pair for pair in skeleton.flip_pairs}
    flips = [sides.get(frozenset(pair), pair) for pair in pairs[_SYMMETRY]] or skeleton.flip_pairs
    try:
        return Skeleton(skeleton.name, skeleton.keypoints, tuple(flips), limbs=tuple(pairs[_EDGE]))
    except ValueError as error:
        raise invalid(where, "symmetries of different keypoints", str(error)) from error


def _kind(value: object, known: list[int]) -> int:
    """1 for an edge, 2 for a symmetry; jsonpickle repeats a kind by its number."""
    try:
        if isinstance(value, dict) and "py/reduce" in value:
            known.append(int(value["py/reduce"][1]["py/tuple"][0]))
            return known[-1]
        if isinstance(value, dict):
            number_ = int(value["py/id"])
            return known[number_ - 1] if 0 < number_ <= len(known) else number_
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        pass
    return 0


def _video(
    file: Hdf5, row: int, entry: Mapping[str, Any], images: ImageFiles, packaged: dict[str, bytes]
) -> _Video:
    where = f"{file.path}: video {row}"
    backend = json_object(entry.get("backend") or {}, f"{where}: backend")
    listed = backend.get("filenames") or entry.get("filename")
    if isinstance(listed, list):
        names = {frame: _below(name, images, where) for frame, name in enumerate(listed)}
        return _Video(f"video{row}", names)
    dataset = backend.get("dataset")
    if isinstance(dataset, str) and dataset and dataset in file:
        return _package(file, row, dataset, packaged)
    name = backend.get("filename") or entry.get("filename")
    if not isinstance(name, str) or not name:
        raise invalid(where, "the name of a clip", name)
    shape = backend.get("shape")
    size = None
    if isinstance(shape, list) and len(shape) == 4 and all(shape[1:3]):
        size = size_wh(shape[2], shape[1], f"{where}: shape")
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return _Video(image_name(stem, f"{where}: name"), {}, size)


def _package(file: Hdf5, row: int, dataset: str, packaged: dict[str, bytes]) -> _Video:
    """The images of a package, encoded one by one."""
    group = dataset.rpartition("/")[0]
    kind = str(file.attribute(dataset, "format") or "")
    if kind.lower() not in ("png", "jpg", "jpeg"):
        raise file.error(dataset, "images as png or jpg", kind)
    contents = file.rows(dataset)
    frames = file.numbers(f"{group}/frame_numbers").tolist()
    if len(frames) != len(contents):
        raise file.error(f"{group}/frame_numbers", f"{len(contents)} numbers", len(frames))
    order = file.attribute(dataset, "channel_order")
    version = file.attribute("metadata", "format_id")
    # Older packages were encoded by OpenCV, which has red and blue the other way round.
    swapped = order == "BGR" if order else isinstance(version, float) and version < 1.4
    stem, names = f"video{row}", {}
    for frame, content in zip(map(int, frames), contents, strict=True):
        names[frame] = f"{stem}/frame_{frame:06d}.{kind.lower()}"
        packaged[names[frame]] = _recolored(content, kind) if swapped else content
    return _Video(stem, names)


def _recolored(content: bytes, kind: str) -> bytes:
    """The image with red and blue exchanged."""
    pixels = read_image(content)
    if (pixels[..., 0] == pixels[..., 2]).all():
        return content
    return encode(np.ascontiguousarray(pixels[..., ::-1]), f".{kind.lower()}")


def _below(name: object, images: ImageFiles, where: str) -> str:
    """The longest end of a path, which may be of another machine, that is among the images."""
    if not isinstance(name, str) or not name:
        raise invalid(where, "the names of images", name)
    parts = [p for p in PurePosixPath(name.replace("\\", "/")).parts if p not in ("/", "..")]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    found = next(
        (end for end in ends if ":" not in end and end in images), ends[-1] if ends else ""
    )
    return image_name(found, where)


def _instances(
    file: Hdf5, chosen: int, skeletons: int, names: list[str], shift: float, lost: Counter[str]
) -> Iterator[tuple[int, int, Person]]:
    """Video, frame and person of each labeled instance."""
    frames, instances = file.records("frames", _FRAMES), file.records("instances", _INSTANCES)
    points = file.records("points", ("x", "y", "visible"))
    ranges = [frames[key].astype(np.int64) for key in _FRAMES]
    total = 0
    for row, (video, frame, start, end) in enumerate(
        zip(*(r.tolist() for r in ranges), strict=True)
    ):
        total += end - start
        # Overlapping ranges would make many persons of few.
        if not 0 <= start <= end <= len(instances) or total > len(instances):
            raise file.error(f"frame {row}", "a range of instances", f"{start} to {end}")
        if not 0 <= frame < 2**31:
            raise file.error(f"frame {row}", "a number of a frame", frame)
        for index in range(start, end):
            where = f"{file.path}: instance {index}"
            instance = instances[index]
            if int(instance["instance_type"]) != 0:
                lost["instances that a model predicted"] += 1
                continue
            if (own := int(instance["skeleton"])) != chosen:
                if not 0 <= own < skeletons:
                    raise invalid(where, f"a skeleton below {skeletons}", own)
                lost["instances of other skeletons"] += 1
                continue
            first, last = int(instance["point_id_start"]), int(instance["point_id_end"])
            if last - first != len(names) or not 0 <= first <= last <= len(points):
                raise invalid(where, f"{len(names)} points", f"{first} to {last}")
            keypoints = _keypoints(points[first:last], names, shift, where)
            if not keypoints:
                lost["instances without a labeled keypoint"] += 1
                continue
            track = int(instance["track"]) if "track" in (instances.dtype.names or ()) else -1
            yield video, frame, Person(keypoints, None, where, track=track if track >= 0 else None)


def _keypoints(points: Any, names: list[str], shift: float, where: str) -> dict[str, Keypoint]:
    keypoints: dict[str, Keypoint] = {}
    for name, point in zip(names, points, strict=True):
        x, y = float(point["x"]), float(point["y"])
        if bool(point["visible"]) and not (np.isnan(x) or np.isnan(y)):
            at = f"{where}: {name}"
            keypoints[name] = (number(x, f"{at}: x") - shift, number(y, f"{at}: y") - shift, 2)
    return keypoints


# The version of the layout that is written, and the largest attribute of an HDF5 file.
_FORMAT_ID, _MAX_ATTRIBUTE = 1.4, 64_000
_PREDICTED = 1
_FRAME = np.dtype(
    [("frame_id", "u8"), ("video", "u4"), ("frame_idx", "u8"), ("instance_id_start", "u8"),
     ("instance_id_end", "u8")]
)  # fmt: skip
_INSTANCE = np.dtype(
    [("instance_id", "i8"), ("instance_type", "u1"), ("frame_id", "u8"), ("skeleton", "u4"),
     ("track", "i4"), ("from_predicted", "i8"), ("score", "f4"), ("point_id_start", "u8"),
     ("point_id_end", "u8"), ("tracking_score", "f4")]
)  # fmt: skip
_POINT = [("x", "f8"), ("y", "f8"), ("visible", "?"), ("complete", "?")]
_PREDICTED_POINT = [*_POINT, ("score", "f8")]


def slp(
    skeleton: Skeleton,
    tracks: Sequence[str],
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    *,
    source: str,
    size_wh: tuple[int, int],
) -> bytes:
    """The file of predicted instances in a clip, with the names of their tracks.

    `keypoints` (t, n, k, 3) are x, y in pixels and the score, `scores` (t, n) those of the poses,
    NaN where there is none. `source` is the clip, `size_wh` that of its frames. Raises UserError
    without h5py.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise missing("sleap", error, "hrpose[hdf5]") from error
    t, _, k, _ = keypoints.shape
    frame, track = np.nonzero(~np.isnan(scores))
    count = len(frame)
    ends = np.searchsorted(frame, np.arange(t), side="right")
    frames = np.zeros(t, _FRAME)
    frames["frame_id"] = frames["frame_idx"] = np.arange(t)
    frames["instance_id_start"], frames["instance_id_end"] = np.concatenate([[0], ends[:-1]]), ends
    instances = np.zeros(count, _INSTANCE)
    instances["instance_id"] = np.arange(count)
    instances["instance_type"], instances["from_predicted"] = _PREDICTED, -1
    instances["frame_id"], instances["track"] = frame, track
    instances["score"], instances["tracking_score"] = scores[frame, track], np.nan
    instances["point_id_start"] = k * np.arange(count)
    instances["point_id_end"] = k * np.arange(1, count + 1)
    values = keypoints[frame, track].reshape(-1, 3).astype(np.float64).round(4)
    points = np.zeros(len(values), _PREDICTED_POINT)
    points["x"], points["y"], points["score"] = values.T
    points["visible"] = True
    backend = {"type": "MediaVideo", "filename": source, "shape": [t, *size_wh[::-1], 3]}
    video = json.dumps({"filename": source, "backend": backend})
    metadata = json.dumps(_metadata(skeleton), separators=(",", ":")).encode()
    if len(metadata) > _MAX_ATTRIBUTE:
        raise UserError(
            f"sleap: expected a skeleton of at most {_MAX_ATTRIBUTE:,} bytes, as HDF5 attributes "
            f"have them, found {len(metadata):,}; save another format",
            code="skeleton-too-large",
        )
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group("metadata")
        group.attrs["format_id"], group.attrs["json"] = _FORMAT_ID, np.bytes_(metadata)
        tables = {"frames": frames, "instances": instances, "pred_points": points}
        for name, table in {**tables, "points": np.zeros(0, _POINT)}.items():
            file.create_dataset(name, data=table)
        texts = {"videos_json": [video], "tracks_json": [json.dumps([0, t]) for t in tracks]}
        for name, rows in {**texts, "suggestions_json": [], "sessions_json": []}.items():
            file.create_dataset(name, data=rows, dtype=h5py.string_dtype())
    return content.getvalue()


def _metadata(skeleton: Skeleton) -> dict[str, Any]:
    """The skeleton, with kinds of links as jsonpickle has them: in full, then by their number."""
    links: list[dict[str, Any]] = []
    for number_, (a, b) in enumerate(skeleton.limbs):
        links.append({"edge_insert_idx": number_, "key": 0, "source": a, "target": b})
    edges = len(links)
    links += [{"key": 0, "source": a, "target": b} for a, b in skeleton.flip_pairs]
    known: list[int] = []
    for row, link in enumerate(links):
        kind = _EDGE if row < edges else _SYMMETRY
        if kind not in known:
            known.append(kind)
            name = {"py/type": "sleap.skeleton.EdgeType"}
            link["type"] = {"py/reduce": [name, {"py/tuple": [kind]}]}
        else:
            link["type"] = {"py/id": known.index(kind) + 1}
    graph = {"name": skeleton.category or skeleton.name, "num_edges_inserted": edges}
    body = {"directed": True, "multigraph": True, "graph": graph, "links": links}
    nodes = [{"name": name, "weight": 1.0} for name in skeleton.keypoints]
    return {
        "version": "2.0.0",
        "skeletons": [{**body, "nodes": [{"id": at} for at in range(len(nodes))]}],
        "nodes": nodes,
        **{key: [] for key in ("videos", "tracks", "suggestions")},
        "negative_anchors": {},
        "provenance": {"hrpose": __version__},
    }
