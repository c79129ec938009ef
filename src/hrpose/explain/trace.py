"""The box to explain, and the intermediate results between an image and a pose."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import flip_back
from hrpose.engines import onnxruntime
from hrpose.errors import UserError
from hrpose.estimator import FullImage, PoseEstimator
from hrpose.geometry import Crop, warp
from hrpose.io import protobuf_field, protobuf_fields
from hrpose.metadata import Metadata
from hrpose.models.networks import NETWORKS, HRNetSpec
from hrpose.poses import Poses
from hrpose.predict.inputs import ImageInput, boxes_by_image
from hrpose.session import Session

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class PersonBox:
    """A person's box [x, y, w, h] in pixels, its score in [0, 1], and where it is from.

    `origin` is `given`, or `file`, `detector` or `image` (the full image), with its `name`, which
    had `count` boxes.
    """

    xywh: NDArray[np.float64]
    score: float = 1.0
    origin: str = "given"
    name: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What is between the input and the heatmaps of an HRNet, for one crop.

    `columns` are the stem, stages 1 to 4 and the finest branch after the last exchange: each the
    output (c, h, w) of every branch, finest first, before the exchange that follows (the last one
    of the stage). `without` are heatmaps (k, h, w), each computed with one branch left out of the
    last exchange, finest first.
    """

    columns: tuple[tuple[Floats, ...], ...]
    without: tuple[Floats, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The steps of the method for the `person` in an `image` (H, W, 3) uint8 RGB.

    `view` (h, w, 3) uint8 is the warped crop, the network's input; `direct` and `mirrored`
    (k, h/4, w/4) are the heatmaps of the view and of its mirror image, `merged` their mean of the
    flip test; `in_crop` (k, 2) are the keypoints in pixels of the view, `peaks` (k,) the maxima of
    `merged`; `poses` is the result. `keypoint` is the index of the one shown in detail; `features`
    are None for other networks than HRNets.
    """

    image: NDArray[np.uint8]
    person: PersonBox
    metadata: Metadata
    crop: Crop
    view: NDArray[np.uint8]
    direct: Floats
    mirrored: Floats
    merged: Floats
    in_crop: Floats
    peaks: Floats
    poses: Poses
    keypoint: int
    features: Features | None = None

    @property
    def box(self) -> NDArray[np.float64]:
        """The person's box [x, y, w, h]."""
        return self.person.xywh

    @property
    def strides(self) -> tuple[float, float]:
        """Pixels of the view per heatmap pixel, along x and y."""
        return self.metadata.codec.strides(self.metadata.heatmap_wh)

    @property
    def in_heatmap(self) -> Floats:
        """(k, 2): the keypoints in heatmap pixels."""
        points: Floats = self.in_crop / np.array(self.strides)
        return points

    @property
    def peak_pixels(self) -> NDArray[np.int64]:
        """(k, 2): the highest pixel (x, y) of each merged heatmap."""
        rows, columns = np.divmod(
            self.merged.reshape(len(self.merged), -1).argmax(axis=1), self.merged.shape[2]
        )
        return np.stack([columns, rows], axis=-1)

    @property
    def flipped_back(self) -> Floats:
        """(k, h, w): `mirrored`, mirrored again, with left and right keypoints exchanged."""
        order = self.metadata.skeleton.flip_permutation
        back: Floats = flip_back(self.mirrored, order, shift=False)
        return back

    @property
    def twin(self) -> int:
        """The index of the keypoint that `keypoint` becomes in the mirror image."""
        return int(self.metadata.skeleton.flip_permutation[self.keypoint])

    @property
    def name(self) -> str:
        """The name of `keypoint`, with spaces."""
        return self.metadata.skeleton.keypoints[self.keypoint].replace("_", " ")


def trace(
    session: Session,
    image: NDArray[np.uint8],
    person: PersonBox,
    keypoint: str | None = None,
    weights: Path | None = None,
) -> Trace:
    """Trace a person in an image (h, w, 3) uint8 RGB through `session`, with the flip test.

    `keypoint` is the name of the one to show in detail; without it, one that shows the method well.
    `weights` is the file that `session` opened, for what is inside the network. Raises UserError
    for a box beside the image and an unknown keypoint.
    """
    estimator = PoseEstimator(session, flip_test=True)
    metadata = session.metadata
    poses = estimator(image, [person.xywh], [person.score])
    crop = metadata.crop(person.xywh)
    view = warp(image, crop)
    direct, mirrored = session(np.stack([view, view[:, ::-1]]))
    codec, order = metadata.codec, metadata.skeleton.flip_permutation
    merged = codec.merge_flipped(direct, mirrored, order)
    in_crop, peaks = estimator.decode(merged)
    chosen = _clearest(merged, in_crop / codec.strides(metadata.heatmap_wh), peaks)
    if keypoint is not None:
        chosen = _index_of(keypoint, metadata)
    return Trace(
        image, person, metadata, crop, view, direct, mirrored, merged, in_crop, peaks, poses,
        chosen, None if weights is None else features(weights, metadata, view),
    )  # fmt: skip


def features(weights: Path, metadata: Metadata, view: NDArray[np.uint8]) -> Features | None:
    """What a network computes from the crop `view` (h, w, 3); None where it is no HRNet of
    version 1.

    The graph of an ONNX file gets more outputs; PyTorch's files are written as ONNX before.
    """
    ort = onnxruntime()
    spec = NETWORKS.get(metadata.network)
    if not isinstance(spec, HRNetSpec) or spec.version != 1:
        return None
    if weights.suffix == ".onnx":
        content = weights.read_bytes()
    else:
        from hrpose.models import convert, onnx_graph

        content = onnx_graph.pose_model(convert.read(weights).state, metadata).SerializeToString()
    graph = _Graph(content)
    try:
        columns = [[graph.input_of("layer1.0.conv1")], [graph.input_of("transition1.0.0")]]
        for number, stage in enumerate(spec.stages, start=2):
            fuse = f"stage{number}.{stage.modules - 1}.fuse_layers"
            finest = [graph.input_of(f"{fuse}.1.0.0.0")] if number < 4 else []
            coarser = range(1, len(stage.widths))
            columns.append([*finest, *(graph.input_of(f"{fuse}.0.{j}.0") for j in coarser)])
        head = graph.node_of("final_layer")
        columns.append([head.inputs[0]])
        last = graph.origin(head.inputs[0])
        # Before the ReLU, which weights of eight bits have in their rounding.
        total = last.inputs[0] if last.kind == "Relu" else last.output
        terms = graph.terms(total, len(spec.stage4.widths))
    except KeyError:
        return None
    if any(graph.origin(term).kind != "Resize" for term in terms[1:]):
        return None
    columns[4].insert(0, terms[0])
    added = [
        node
        for branch, term in enumerate(terms)
        for node in (
            _Node("Sub", (total, term), f"rest_{branch}"),
            _Node("Relu", (f"rest_{branch}",), f"left_{branch}"),
            _Node("Conv", (f"left_{branch}", *head.inputs[1:]), f"without_{branch}"),
        )
    ]
    without = [f"without_{branch}" for branch in range(len(terms))]
    names = [name for column in columns for name in column] + without
    session = ort.InferenceSession(
        content + graph.more(added, names), providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: view[None]}
    outputs = [np.asarray(o[0], np.float32) for o in session.run(names, feed)]
    values = iter(outputs)
    by_column = tuple(tuple(next(values) for _ in column) for column in columns)
    return Features(by_column, tuple(values))


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of an ONNX graph with one output."""

    kind: str
    inputs: tuple[str, ...]
    output: str


# Numbers of fields in onnx.proto.
_GRAPH, _NODE, _OUTPUT, _NAME = 7, 1, 12, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND = 1, 2, 4


class _Graph:
    """The nodes of an ONNX file, read without the onnx package."""

    def __init__(self, content: bytes) -> None:
        self._by_output: dict[str, _Node] = {}
        self._convolutions: dict[str, _Node] = {}
        for number, _, start, end in protobuf_fields(content, 0, len(content)):
            for inner, _, first, last in (
                protobuf_fields(content, start, end) if number == _GRAPH else ()
            ):
                if inner == _NODE:
                    self._add(_read_node(content, first, last))

    def _add(self, node: _Node) -> None:
        self._by_output[node.output] = node
        if node.kind == "Conv":
            name = node.inputs[1]
            # Weights of fewer bits are converted first.
            while name in self._by_output:
                name = self._by_output[name].inputs[0]
            self._convolutions[name.removeprefix("network.").partition(".weight")[0]] = node

    def node_of(self, convolution: str) -> _Node:
        """The node of a convolution, by its name in the state dict. KeyError if there is none."""
        return self._convolutions[convolution]

    def input_of(self, convolution: str) -> str:
        """What a convolution, by its name in the state dict, reads. KeyError if there is none."""
        return self._convolutions[convolution].inputs[0]

    def origin(self, name: str) -> _Node:
        """The node that computes `name`, before any conversion of its type."""
        node = self._by_output[name]
        conversions = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")
        return self.origin(node.inputs[0]) if node.kind in conversions else node

    def terms(self, name: str, count: int) -> list[str]:
        """The `count` terms of a sum, which were added one after the other. KeyError if not."""
        terms: list[str] = []
        for _ in range(count - 1):
            node = self.origin(name)
            if node.kind != "Add":
                raise KeyError(name)
            name, term = node.inputs
            terms.insert(0, term)
        return [name, *terms]

    def more(self, nodes: list[_Node], outputs: list[str]) -> bytes:
        """What a file ends with to have these nodes and outputs too.

        A protobuf message that follows another adds to its lists.
        """
        written = [
            protobuf_field(_NODE, b"".join([
                *(protobuf_field(_NODE_INPUT, name.encode()) for name in node.inputs),
                protobuf_field(_NODE_OUTPUT, node.output.encode()),
                protobuf_field(_NODE_KIND, node.kind.encode()),
            ]))
            for node in nodes
        ]  # fmt: skip
        written += [
            protobuf_field(_OUTPUT, protobuf_field(_NAME, name.encode())) for name in outputs
        ]
        return protobuf_field(_GRAPH, b"".join(written))


def _read_node(content: bytes, start: int, end: int) -> _Node:
    texts: Mapping[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_KIND: [""]}
    for number, _, first, last in protobuf_fields(content, start, end):
        if number in texts:
            texts[number].append(content[first:last].decode())
    return _Node(texts[_NODE_KIND][-1], tuple(texts[_NODE_INPUT]), texts[_NODE_OUTPUT][0])


def box_to_explain(
    path: Path,
    image: NDArray[np.uint8],
    estimator: PoseEstimator,
    box: str | None = None,
    boxes: Path | None = None,
) -> PersonBox:
    """The box to explain in the image (h, w, 3) at `path`.

    It is `box`, as "x,y,w,h", or the largest one in the COCO file `boxes`, or of those that the
    estimator's detector finds. Raises UserError where there is none.
    """
    if box is not None:
        try:
            x, y, w, h = (float(value) for value in box.split(","))
        except ValueError as error:
            raise UserError(
                f"--box: expected four numbers x,y,w,h such as 40,20,180,400, found '{box}'",
                code="option-invalid",
            ) from error
        return PersonBox(np.array([x, y, w, h]))
    if boxes is not None:
        source = ImageInput(path, 1)
        in_boxes, _ = boxes_by_image(boxes, [source])
        rows, values = in_boxes[source]
        found, scores = np.array(rows, np.float64).reshape(-1, 4), np.array(values, np.float64)
        origin, name = "file", boxes.name
    else:
        detected = estimator.image(image)
        found, scores = detected.boxes, detected.box_scores
        full = isinstance(estimator.detector, FullImage)
        origin, name = "image" if full else "detector", estimator.detector.name
    if not len(found):
        raise UserError(
            f"{path}: found no person; give a box with --box x,y,w,h, or --detector full-image "
            "for an image cropped to one",
            code="persons-missing",
        )
    largest = int(np.argmax(found[:, 2] * found[:, 3]))
    return PersonBox(found[largest], float(scores[largest]), origin, name, len(found))


def _clearest(heatmaps: Floats, points: Floats, peaks: Floats) -> int:
    """The keypoint with the highest peak, preferably between pixels and away from the border."""
    height, width = heatmaps.shape[1:]
    between = (np.abs(points - np.rint(points)) > 1e-3).all(axis=1)
    inside = ((points >= 4) & (points < [width - 4, height - 4])).all(axis=1)
    return int(np.argmax(peaks + between + inside))


def _index_of(keypoint: str, metadata: Metadata) -> int:
    names = metadata.skeleton.keypoints
    wanted = keypoint.strip().replace(" ", "_").replace("-", "_")
    if wanted not in names:
        raise UserError(
            f"keypoint '{keypoint}': expected one of {', '.join(names)}", code="option-invalid"
        )
    return names.index(wanted)
