"""Pose models of other programs: recognized by the shapes of their outputs, or refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foreign_pose import HEIGHT, WIDTH, dot, write_foreign_pose
from hrpose.codec import Codec
from hrpose.engines import Engine
from hrpose.models.onnx_pose import Conventions, OnnxPose, decode_simcc, open_pose_model
from hrpose.models.rtmlib import export_rtmlib
from hrpose.session import Port
from hrpose.skeletons import COCO_17, HALPE_26, MPII_16
from refusals import refused
from tiny_weights import write_tiny_weights


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize(("kind", "tolerance"), [("heatmaps", 3), ("simcc", 0.5)])
def test_the_kind_is_told_by_shapes(
    tmp_path: Path, kind: str, tolerance: float, batch: int | str
) -> None:
    model = open_pose_model(write_foreign_pose(tmp_path / "other.onnx", kind, batch=batch))
    places = np.array([(20, 40), (30, 22), (19, 50)])
    points, scores = model.keypoints(np.stack([dot(*place) for place in places]))
    assert points.shape == (3, 17, 2)
    assert scores.shape == (3, 17)
    assert np.abs(points - places[:, None]).max() <= tolerance
    assert (scores > 0.5).all()
    assert (scores <= 1).all()
    assert model.metadata.skeleton is COCO_17
    assert model.metadata.input_wh == (WIDTH, HEIGHT)
    assert model.metadata.license == "unknown"


class Recording:
    """A network that remembers what it was given."""

    inputs = (Port("image", ("n", 3, 64, 48), np.dtype(np.float32)),)
    outputs = (Port("heatmaps", ("n", 17, 16, 12), np.dtype(np.float32)),)
    engine = Engine("cpu", "", "fp32")

    def __call__(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        self.given = feeds["image"]
        return [np.zeros((len(self.given), 17, 16, 12), np.float32)]


@pytest.mark.parametrize(("bgr", "order"), [(False, [0, 1, 2]), (True, [2, 1, 0])])
def test_colors_are_given_in_the_order_and_scale_of_the_conventions(
    bgr: bool, order: list[int]
) -> None:
    network = Recording()
    conventions = Conventions(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0), bgr=bgr)
    OnnxPose(Path("other.onnx"), network, conventions).keypoints(
        np.full((1, 64, 48, 3), (51, 102, 255), np.uint8)
    )
    wanted = np.array([0.1 / 0.5, 0.2, 0.7 / 2])[order]
    np.testing.assert_allclose(network.given[0, :, 5, 7], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("k", "skeleton", "name"), [(26, None, "halpe-26"), (16, None, "mpii-16"), (5, None, None)]
)
def test_keypoints_are_those_of_the_usual_skeleton(
    tmp_path: Path, k: int, skeleton: None, name: str | None
) -> None:
    path = write_foreign_pose(tmp_path / "other.onnx", "simcc", k)
    if name is None:
        with refused("keypoints-differ", "other.onnx", "5 keypoints"):
            open_pose_model(path)
    else:
        assert open_pose_model(path).metadata.skeleton.name == name


def test_a_skeleton_of_another_number_is_refused(tmp_path: Path) -> None:
    path = write_foreign_pose(tmp_path / "other.onnx", "simcc", 16)
    with refused("keypoints-differ", "16", "26"):
        open_pose_model(path, Conventions(skeleton=HALPE_26))
    assert open_pose_model(path, Conventions(skeleton=MPII_16)).metadata.skeleton is MPII_16


def test_outputs_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = write_foreign_pose(tmp_path / "other.onnx", "boxes")
    with refused("weights-unsuitable", "other.onnx", "boxes [48, 48, 4]"):
        open_pose_model(path)


def test_files_for_rtmlib_are_refused(tmp_path: Path) -> None:
    """Their colors are in another order, which no shape tells."""
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    export_rtmlib(weights, tmp_path / "rtmlib.onnx")
    with refused("weights-unsuitable", "rtmlib.onnx", "made from"):
        open_pose_model(tmp_path / "rtmlib.onnx")


def test_files_with_metadata_need_no_conventions(tmp_path: Path) -> None:
    weights = write_tiny_weights(tmp_path / "tiny.onnx")
    with refused("option-conflict", "tiny.onnx"):
        open_pose_model(weights, Conventions(codec=Codec("udp", 3.0), padding=2.0))
    model = open_pose_model(weights)
    assert model.metadata.padding == 1.25
    assert model.keypoints(dot(20, 40)[None])[0].shape == (1, 17, 2)


@settings(deadline=None, max_examples=30)
@given(
    bins=st.sampled_from([1, 2, 3]),
    size=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    data=st.data(),
)
def test_simcc_vectors_decode_to_their_highest_bins(
    bins: int, size: tuple[int, int], data: st.DataObject
) -> None:
    x, y = (data.draw(st.integers(0, bins * side - 1)) for side in size)
    low, high = sorted(data.draw(st.tuples(*[st.floats(0.1, 1)] * 2)))
    along = [np.zeros((1, 1, bins * side), np.float32) for side in size]
    along[0][0, 0, x], along[1][0, 0, y] = high, low
    points, scores = decode_simcc(along[0], along[1], size)
    np.testing.assert_allclose(points[0, 0], [x / bins, y / bins])
    assert scores[0, 0] == np.float32(low)
