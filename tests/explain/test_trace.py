"""The trace: its steps are those of the estimator, and lead to the same pose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from hrpose import weights
from hrpose.codec import CODECS, Codec
from hrpose.estimator import PoseEstimator
from hrpose.explain import PersonBox, trace
from hrpose.explain.trace import features
from hrpose.geometry import transform
from hrpose.metadata import Metadata, metadata_of
from hrpose.models import checkpoint
from hrpose.models.hrnet import HRNet, Normalize
from hrpose.session import Session, open_session
from refusals import refused
from tiny_weights import METADATA, write_tiny_weights

BOX = np.array([12.0, 20.0, 70.0, 60.0])


@pytest.fixture(scope="module", params=CODECS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    metadata = replace(METADATA, codec=Codec(request.param, sigma=1.2))
    path = tmp_path_factory.mktemp("weights") / "tiny.onnx"
    return open_session(write_tiny_weights(path, metadata), threads=1)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    """Soft blobs, so that peaks lie anywhere."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:90, :110]
    image = np.zeros((90, 110, 3))
    for channel in range(3):
        for _ in range(3):
            cx, cy = rng.uniform(20, 80, 2)
            image[..., channel] += 120 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 200)
    return np.clip(image, 0, 255).astype(np.uint8)


def test_it_ends_at_the_estimators_pose(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, PersonBox(BOX))
    poses = PoseEstimator(session, flip_test=True)(image, [BOX])
    np.testing.assert_array_equal(traced.poses.keypoints, poses.keypoints)
    back = transform(traced.in_crop, traced.crop.inverse_matrix)
    np.testing.assert_allclose(back, poses.keypoints[0, :, :2], atol=1e-4)
    np.testing.assert_array_equal(np.clip(traced.peaks, 0, 1), poses.keypoints[0, :, 2])


def test_the_flip_tests_steps_add_up(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, PersonBox(BOX))
    flipped = traced.flipped_back
    if not traced.metadata.codec.unit_lengths:
        flipped = np.concatenate([flipped[..., :1], flipped[..., :-1]], axis=-1)
    np.testing.assert_allclose((traced.direct + flipped) / 2, traced.merged, atol=1e-6)


def test_the_place_is_near_the_highest_pixel(session: Session, image: NDArray[np.uint8]) -> None:
    traced = trace(session, image, PersonBox(BOX))
    rows = np.arange(len(traced.merged))
    x, y = traced.peak_pixels.T
    np.testing.assert_array_equal(traced.merged[rows, y, x], traced.merged.max(axis=(1, 2)))
    assert np.abs(traced.in_heatmap - traced.peak_pixels).max() <= 1 + 1e-6
    # The chosen keypoint shows how the position leaves the center of the pixel.
    move = traced.in_heatmap[traced.keypoint] - traced.peak_pixels[traced.keypoint]
    assert (np.abs(move) > 0).all()


@pytest.mark.parametrize("keypoint", ["left_wrist", "left wrist", " left-wrist "])
def test_a_keypoint_by_its_name(session: Session, image: NDArray[np.uint8], keypoint: str) -> None:
    traced = trace(session, image, PersonBox(BOX), keypoint)
    assert traced.name == "left wrist"
    assert traced.metadata.skeleton.keypoints[traced.twin] == "right_wrist"


def test_a_keypoint_that_is_not_there(session: Session, image: NDArray[np.uint8]) -> None:
    with refused("option-invalid", "'tail'", "nose, left_eye"):
        trace(session, image, PersonBox(BOX), "tail")


def test_a_box_beside_the_image(session: Session, image: NDArray[np.uint8]) -> None:
    with refused("boxes-invalid", "box 0"):
        trace(session, image, PersonBox(BOX + np.array([500, 0, 0, 0])))


def test_the_embedded_weights_too() -> None:
    image = np.full((60, 50, 3), 128, np.uint8)
    session = open_session(weights.find("w16-small"), 1)
    traced = trace(session, image, PersonBox(np.array([0, 0, 50, 60])))
    assert traced.view.shape[:2][::-1] == traced.metadata.input_wh


def test_the_score_of_the_box_is_part_of_the_poses(
    session: Session, image: NDArray[np.uint8]
) -> None:
    whole, half = (trace(session, image, PersonBox(BOX, score)) for score in (1.0, 0.5))
    np.testing.assert_allclose(half.poses.scores, whole.poses.scores / 2, rtol=1e-6)


def test_features_are_those_of_the_network(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = HRNet.from_name("w16-small", 17).eval()
    metadata = replace(METADATA, network="w16-small", input_wh=(64, 96))
    checkpoint.save(tmp_path / "random.safetensors", network, metadata)
    view = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
    found = features(tmp_path / "random.safetensors", metadata, view)
    assert found is not None
    seen = {}
    for stage in (network.stage2, network.stage3, network.stage4):
        for branch in stage[-1].branches:
            branch.register_forward_hook(lambda part, _, output: seen.update({part: output}))
    network.layer1.register_forward_hook(lambda part, _, output: seen.update({part: output}))
    fuse, head = network.stage4[-1].fuse_layers[0], network.final_layer
    with torch.inference_mode():
        image = torch.from_numpy(view[None])
        heatmaps = network(Normalize(metadata.mean, metadata.std)(image))[0]
        expected = [[seen[network.layer1]]] + [
            [seen[branch] for branch in stage[-1].branches]
            for stage in (network.stage2, network.stage3, network.stage4)
        ]
        terms = [path(value) for path, value in zip(fuse.children(), expected[3], strict=True)]
        without = [head(torch.relu(sum(terms) - term))[0] for term in terms]
    assert [len(column) for column in found.columns] == [1, 1, 2, 3, 4, 1]
    for column, values in zip(found.columns[1:5], expected, strict=True):
        for one, other in zip(column, values, strict=True):
            np.testing.assert_allclose(one, other[0].numpy(), rtol=1e-3, atol=1e-4)
    for one, other in zip(found.without, without, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-4)
    with torch.inference_mode():
        again = head(torch.from_numpy(found.columns[5][0][None]))[0]
    np.testing.assert_allclose(again, heatmaps, rtol=1e-3, atol=1e-4)


def test_features_of_eight_bits_are_nearly_the_same(tmp_path: Path) -> None:
    from hrpose.evaluation.quantize import _quantize

    path = weights.find("w16-small")
    metadata = metadata_of(path, Metadata)
    width, height = metadata.input_wh
    view = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    _quantize(path, tmp_path / "eight.onnx", [view[None]])
    both = [features(file, metadata, view) for file in (path, tmp_path / "eight.onnx")]
    assert both[0] is not None
    assert both[1] is not None
    for one, other in zip(both[0].without, both[1].without, strict=True):
        assert np.abs(one - other).max() < 0.1


def test_features_of_weights_stored_as_float16(tmp_path: Path) -> None:
    path = weights.find("w16-small")
    metadata = metadata_of(path, Metadata)
    model = onnx.load(path)
    stored = {}
    for entry in model.graph.initializer:
        if entry.data_type == onnx.TensorProto.FLOAT and ".weight" in entry.name:
            half = onnx.numpy_helper.to_array(entry).astype(np.float16)
            stored[entry.name] = entry.name + ".half"
            entry.CopyFrom(onnx.numpy_helper.from_array(half, entry.name + ".half"))
    casts = [onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT)
             for name, half in stored.items()]  # fmt: skip
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "half.onnx")
    width, height = metadata.input_wh
    view = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole, half = (features(file, metadata, view) for file in (path, tmp_path / "half.onnx"))
    assert whole is not None
    assert half is not None
    for one, other in zip(whole.without, half.without, strict=True):
        assert np.abs(one - other).max() < 0.02


def test_another_network_has_no_features(tmp_path: Path) -> None:
    view = np.zeros((64, 48, 3), np.uint8)
    file = write_tiny_weights(tmp_path / "tiny.onnx")
    assert features(file, METADATA, view) is None
    assert features(file, replace(METADATA, network="w16-small"), view) is None
    for name in ("hrnetv2-w18", "litehrnet-18"):
        assert features(file, replace(METADATA, network=name), view) is None
