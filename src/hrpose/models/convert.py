"""Checkpoints of the official code, mmpose and timm, recognized by their keys and shapes.

All of them name the backbone as the paper's code does, which is how it is named here too. They
differ around it: in prefixes, the head's name, parts that pose estimation does not need. A key that
neither belongs to the network nor is known to be superfluous is an error.

Their files (.pth) are read and written as ONNX without PyTorch; all other forms need it.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrpose.codec import Codec, sigma_for
from hrpose.errors import UserError, missing
from hrpose.io import write_atomically
from hrpose.metadata import Metadata, check_weights, metadata_in, write_with_metadata
from hrpose.models import torch_file
from hrpose.models.forward import state_shapes
from hrpose.models.networks import NETWORKS, HRNetSpec, LiteHRNetSpec, check_shapes
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16, SHIPPED

if TYPE_CHECKING:
    from torch import Tensor

    from hrpose.models.build import Network

HEAD = "final_layer."
LAYERS = "conv_layers."
State = dict[str, NDArray[Any]]

# Where training programs keep the state dict. The official code's `best_state_dict` is the same as
# its `state_dict`, less the prefix.
_WRAPPERS = ("best_state_dict", "state_dict", "model_state_dict", "model")
# DataParallel, hrpose's own training, mmpose.
_PREFIX = re.compile(r"^(module\.)?(network\.|backbone\.)?")
# Heads under other names: MMPose's; with layers before the last, MMPose 0.x's and the official face
# landmark code's.
_HEADS = (
    (re.compile(r"^(keypoint_)?head\.final_layer\.(?=weight$|bias$)"), HEAD),
    (re.compile(r"^head\.conv_layers\.(?=\d\.\w+$)"), LAYERS),
    (re.compile(r"^(keypoint_head\.final_layer|head)\.(?=[01]\.\w+$)"), LAYERS),
    (re.compile(r"^(keypoint_head\.final_layer|head)\.3\.(?=weight$|bias$)"), HEAD),
)

_SUPERFLUOUS = (
    (re.compile(r"data_preprocessor\."), "mmpose's preprocessing, which the metadata has here"),
    (
        re.compile(
            r"incre_modules\.|downsamp_modules\.|final_layer\.\d|classifier\.|head\.\d|head\.fc\."
            r"|neck\.|fc\."
        ),
        "the classification head of ImageNet",
    ),
)
_UNREAD_OUTPUTS = "outputs of the last exchange unit that pose estimation does not read"

# The sizes of most released weights, width by height.
USUAL_INPUT = {COCO_17: (192, 256), MPII_16: (256, 256)}


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The weights of a checkpoint under the official keys, in their order.

    Without a head (`num_keypoints` None) it is a backbone. `origin` is the program that wrote the
    file, `dropped` maps reasons to the number of entries left out; `added` counts counters of
    BatchNorm that old files lack and nothing reads. Files of hrpose have `metadata`.
    """

    network: str
    state: State
    num_keypoints: int | None
    origin: str
    dropped: Mapping[str, int]
    added: int = 0
    metadata: Metadata | None = None

    def fits_head(self, skeleton: Skeleton) -> bool:
        """Whether the head is for these keypoints.

        Without metadata their number decides, unless it is that of another usual skeleton.
        """
        usual = self.skeleton or skeleton
        return self.num_keypoints == len(skeleton) and usual.keypoints == skeleton.keypoints

    @property
    def skeleton(self) -> Skeleton | None:
        """The keypoints of the head, where they are known; 17 are COCO's and 16 are MPII's."""
        if self.metadata is not None:
            return self.metadata.skeleton
        return next((s for s in USUAL_INPUT if len(s) == self.num_keypoints), None)

    def tensors(self) -> "dict[str, Tensor]":
        """The weights for PyTorch."""
        import torch

        return {key: torch.from_numpy(value) for key, value in self.state.items()}

    def build(self, skeleton: Skeleton) -> "Network":
        """A network with these weights.

        Where the keypoints differ it has a new head, in which keypoints of the same name keep
        their rows.
        """
        from hrpose.models.build import build

        network, state = build(self.network, len(skeleton)), self.tensors()
        head = {key: value for key, value in network.state_dict().items() if _is_head(key)}
        if self.num_keypoints is not None:  # whose layers before the last are for any keypoints
            head = {key: value for key, value in head.items() if key.startswith(HEAD)}
        if self.fits_head(skeleton):
            head = {}
        elif self.skeleton is not None:
            for name in self.shared(skeleton):
                new, old = skeleton.keypoints.index(name), self.skeleton.keypoints.index(name)
                for key, rows in head.items():
                    rows[new] = state[key][old]
        network.load_state_dict({**state, **head})
        return network

    def shared(self, skeleton: Skeleton) -> list[str]:
        """The names of keypoints that the head knows and the skeleton has."""
        known = () if self.skeleton is None else self.skeleton.keypoints
        return [name for name in skeleton.keypoints if name in known]


def read(path: Path) -> Weights:
    """Read `.safetensors`, ONNX of `hrpose export`, or a PyTorch file of any name.

    Raises UserError for files that do not hold an HRNet of `hrpose.models.networks.NETWORKS`,
    naming what is missing, superfluous or of another shape; and for files that would run code.
    """
    check_weights(path)
    content, metadata = _content(path)
    entries = _state_dict(path, content)
    state: State = {}
    dropped: dict[str, int] = {}
    for key, value in entries.items():
        name = _official_name(key)
        reason = next((why for pattern, why in _SUPERFLUOUS if pattern.match(name)), None)
        if reason is not None:
            dropped[reason] = dropped.get(reason, 0) + 1
        elif name in state:
            raise UserError(
                f"{path}: expected each entry once, found {name} twice, once as {key}",
                code="weights-damaged",
            )
        else:
            state[name] = value
    name, expected = _recognize(path, state)
    last = rf"stage4\.{NETWORKS[name].stage4.modules - 1}\.fuse_layers\.[1-9]\."
    unread = [key for key in state.keys() - expected.keys() if re.match(last, key)]
    if unread:
        dropped[_UNREAD_OUTPUTS] = len(unread)
    counters = [key for key in expected if key.endswith("num_batches_tracked") and key not in state]
    state.update({key: np.zeros((), np.int64) for key in counters})
    state = {key: value for key, value in state.items() if key not in unread}
    shapes = {key: value.shape for key, value in state.items()}
    check_shapes(expected, shapes, f"{path}: does not fit the network {name}")
    broken = next((k for k in expected if not np.isfinite(state[k]).all()), None)
    if broken is not None:
        raise UserError(
            f"{path}: {broken}: expected finite numbers, found NaN or infinity",
            code="weights-damaged",
        )
    head = expected.get(f"{HEAD}weight")
    return Weights(
        network=name,
        # Copies: what was read may be views of the file, in its order of bytes.
        state={key: np.array(state[key], state[key].dtype.newbyteorder("=")) for key in expected},
        num_keypoints=None if head is None else head[0],
        origin="hrpose" if metadata is not None else _origin(entries, dropped),
        dropped=dropped,
        added=len(counters),
        metadata=metadata,
    )


def write_official(path: Path, weights: Weights) -> None:
    """Write a bare state dict, as the official code loads it; the tensors are bitwise the same."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing(str(path), error, "hrpose[train]") from error
    buffer = io.BytesIO()
    torch.save(weights.tensors(), buffer)
    write_atomically(path, buffer.getvalue())


def write_hrpose(path: Path, weights: Weights, metadata: Metadata | None) -> None:
    """Write ONNX or safetensors; without metadata (a backbone) it can only start a training.

    ONNX is what is run; it needs `hrpose[weights]`, safetensors `hrpose[train]`. Raises UserError
    where the metadata are of another model, and for a backbone as ONNX.
    """
    if metadata is None and path.suffix == ".onnx":
        raise UserError(
            f"{path}: a backbone without a head cannot be run; expected a name that ends in "
            ".safetensors, which a training can start from",
            code="option-invalid",
        )
    if metadata is not None:
        found, expected = (
            f"{network} with {channels} heatmaps"
            for network, channels in (
                (weights.network, weights.num_keypoints),
                (metadata.network, metadata.channels),
            )
        )
        if found != expected:
            raise UserError(
                f"{path}: expected weights of {expected}, found {found}", code="weights-unsuitable"
            )
    extra = "hrpose[weights]" if path.suffix == ".onnx" else "hrpose[train]"
    try:
        if path.suffix == ".onnx" and metadata is not None:
            from hrpose.models.onnx_graph import pose_model

            content = pose_model(weights.state, metadata).SerializeToString()
        else:
            import safetensors.numpy

            content = safetensors.numpy.save(weights.state)
    except ModuleNotFoundError as error:
        raise missing(str(path), error, extra) from error
    write_with_metadata(path, content, metadata)


def _content(path: Path) -> tuple[Any, Metadata | None]:
    """What a file holds, tensors as arrays, and its metadata if it is a pose model of hrpose."""
    if path.suffix not in (".safetensors", ".onnx"):
        content = torch_file.read(path)
        found = metadata_in(content, path) if isinstance(content, dict) else None
        return content, found if isinstance(found, Metadata) else None
    try:
        import torch

        from hrpose.models.checkpoint import read_content
    except ModuleNotFoundError as error:
        raise missing(str(path), error, "hrpose[train]") from error
    tensors, metadata = read_content(path)
    # NumPy has no bfloat16.
    known = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in tensors.items()}
    return {k: v.numpy() for k, v in known.items()}, metadata


def _state_dict(path: Path, content: Any) -> State:
    """The tensors of a file's content, by name."""
    inner = content if isinstance(content, Mapping) else {}
    inner = next((inner[k] for k in _WRAPPERS if isinstance(inner.get(k), Mapping)), inner)
    if not inner or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) for key, value in inner.items()
    ):
        odd = [str(key) for key, value in inner.items() if not isinstance(value, np.ndarray)]
        kind = "a tensor" if isinstance(content, np.ndarray) else type(content).__name__
        found = f"the entries {', '.join(odd[:5])}" if odd else kind
        raise UserError(
            f"{path}: expected a state dict (names and tensors), found {found}",
            code="weights-unsuitable",
        )
    return dict(inner)


def _official_name(key: str) -> str:
    bare = _PREFIX.sub("", key)
    return next((head.sub(to, bare) for head, to in _HEADS if head.match(bare)), bare)


def _is_head(key: str) -> bool:
    return key.startswith((HEAD, LAYERS))


def _recognize(
    path: Path, state: Mapping[str, NDArray[Any]]
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The network's name and the shapes of its state dict.

    HRNets are recognized by the width of the finest branch, Lite-HRNets by a block's name, and
    those alike by the names and shapes of their weights; the head says the number of keypoints.
    """
    finest = state.get("stage4.0.branches.0.0.conv1.weight")
    if finest is not None and finest.ndim == 4:
        width = finest.shape[0]
        hrnets = [spec for spec in NETWORKS.values() if isinstance(spec, HRNetSpec)]
        alike = [spec.name for spec in hrnets if spec.stage4.widths[0] == width]
        if not alike:
            known = ", ".join(f"{spec.name} ({spec.stage4.widths[0]})" for spec in hrnets)
            raise UserError(
                f"{path}: expected a network of the widths {known}, found an HRNet of width "
                f"{width}",
                code="weights-unsuitable",
            )
    elif any(key.startswith("stage0.0.layers.0.cross_resolution_weighting.") for key in state):
        alike = [name for name, spec in NETWORKS.items() if isinstance(spec, LiteHRNetSpec)]
    else:
        some = ", ".join(list(state)[:3]) or "nothing"
        raise UserError(
            f"{path}: expected the weights of an HRNet, found {some} ...", code="weights-unsuitable"
        )
    head = state.get(f"{HEAD}weight")
    k = 1 if head is None or head.ndim == 0 else max(head.shape[0], 1)
    shapes = {name: state_shapes(NETWORKS[name], k) for name in alike}
    found = {key: tensor.shape for key, tensor in state.items()}
    name = min(alike, key=lambda n: len(shapes[n].items() ^ found.items()))
    expected = shapes[name]
    if not any(map(_is_head, state)):
        expected = {key: shape for key, shape in expected.items() if not _is_head(key)}
    return name, expected


def _origin(keys: Mapping[str, Any], dropped: Mapping[str, int]) -> str:
    def any_starts(prefix: str) -> bool:
        return any(key.removeprefix("module.").startswith(prefix) for key in keys)

    if any_starts("backbone."):
        return "mmpose 0.x" if any_starts("keypoint_head.") else "mmpose 1.x"
    if any("ImageNet" in why for why in dropped):
        return "ImageNet classification (official or timm)"
    return "official"


@dataclass(frozen=True, slots=True)
class Known:
    """What a user states about weights without metadata; None is to be inferred."""

    input_wh: tuple[int, int] | None = None
    skeleton: Skeleton | None = None
    codec: str | None = None
    sigma: float | None = None
    training_data: str = "unknown"
    license: str = "unknown"


def metadata_for(weights: Weights, path: Path, known: Known) -> tuple[Metadata, list[str]]:
    """The metadata of weights with a head, and for each part of it a line on its origin.

    Names of released files have the input size (height x width) and the codec in them. Raises
    UserError where something could only be guessed.
    """
    if weights.num_keypoints is None:
        raise UserError(
            f"{path}: is a backbone without a head and can have no metadata",
            code="weights-unsuitable",
        )
    if weights.metadata is not None:
        if known != Known():
            raise UserError(
                f"{path}: has its own metadata; leave out the options that contradict it",
                code="option-conflict",
            )
        return weights.metadata, ["metadata: its own"]
    skeleton, why_skeleton = _skeleton(weights.num_keypoints, path, known.skeleton)
    input_wh, why_size = _input_wh(path, skeleton, known.input_wh)
    named = next((name for name in ("udp", "dark") if name in path.stem.lower()), None)
    name = known.codec or named or "gaussian"
    why_codec = "as given" if known.codec else "from the file's name" if named else "assumed"
    sigma = sigma_for(input_wh) if known.sigma is None else known.sigma
    why_sigma = "the paper's for this size" if known.sigma is None else "as given"
    metadata = Metadata(
        name=path.stem,
        network=weights.network,
        input_wh=input_wh,
        skeleton=skeleton,
        codec=Codec(name, sigma),
        training_data=known.training_data,
        license=known.license,
    )
    return metadata, [
        f"keypoints: {skeleton.name} ({why_skeleton})",
        f"input size: {input_wh[0]}x{input_wh[1]}, width x height ({why_size})",
        f"codec: {name} ({why_codec}), sigma {sigma:g} ({why_sigma})",
    ]


def _skeleton(k: int, path: Path, given: Skeleton | None) -> tuple[Skeleton, str]:
    if given is None:
        known = next((s for s in USUAL_INPUT if len(s) == k), None)
        if known is None:
            shipped = ", ".join(name for name, each in SHIPPED.items() if len(each) == k)
            names = f"{shipped} or a file" if shipped else "FILE"
            raise UserError(
                f"{path}: has {k} keypoints and no names for them; name them with "
                f"--skeleton {names}, such as a COCO keypoints JSON",
                code="option-missing",
            )
        return known, f"because there are {k}"
    if len(given) != k:
        raise UserError(
            f"{path}: expected a skeleton of {k} keypoints, found {given.name} with {len(given)}",
            code="keypoints-differ",
        )
    return given, "as given"


def _input_wh(
    path: Path, skeleton: Skeleton, given: tuple[int, int] | None
) -> tuple[tuple[int, int], str]:
    if given is not None:
        wide = given[0] > given[1] and skeleton in USUAL_INPUT
        return (given, "as given; papers have the height first" if wide else "as given")
    named = re.search(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", path.stem)
    if named is not None:
        height, width = int(named[1]), int(named[2])
        if height and width and not height % 32 and not width % 32:
            return (width, height), "from the file's name"
    if skeleton not in USUAL_INPUT:
        raise UserError(
            f"{path}: its name has no input size; give it with --input-size WIDTHxHEIGHT",
            code="option-missing",
        )
    return USUAL_INPUT[skeleton], "assumed; --input-size changes it"
