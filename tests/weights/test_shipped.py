"""The weights inside the package: tensors that never change, and metadata with what was fitted."""

import hashlib

import numpy as np
import onnx
import pytest

import hrpose
from hrpose.covariance import RADIUS
from hrpose.metadata import Metadata, checksum_holds, metadata_of
from hrpose.weights import find
from refusals import refused
from tiny_weights import write_tiny_weights

TENSORS = {
    "w16-small": "523ae781779c6f1abd88f92e6746da6b01ca812574ad8d1d846156d8f5241343",
    "w32-small": "19ac5e16019fbc14e457253a8a17c4dbd1ef55c69de86ebe083667ffa35ba40b",
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_are_those_that_were_measured(name: str) -> None:
    """A calibration changes the metadata of the file, byte by byte nothing else."""
    found = hashlib.sha256()
    for tensor in onnx.load(find(name)).graph.initializer:
        found.update(tensor.name.encode() + tensor.SerializeToString(deterministic=True))
    assert found.hexdigest() == TENSORS[name]
    assert checksum_holds(find(name))


@pytest.mark.parametrize("name", TENSORS)
def test_they_say_how_uncertain_keypoints_are(name: str) -> None:
    metadata = metadata_of(find(name), Metadata)
    assert metadata.covariance is not None
    assert metadata.presence is not None
    np.testing.assert_allclose(metadata.covariance.radii_at(0.95), RADIUS, rtol=1e-4)
    assert (metadata.covariance.radii_at(0.5) < np.sqrt(-2 * np.log(0.5))).all()
    # A higher peak is a surer keypoint.
    assert (np.diff(metadata.covariance.factors) < 0).all()
    assert metadata.presence.labeled[0] > 0


def test_other_weights_are_asked_to_be_fitted(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.onnx")
    with refused("covariance-missing", "weights calibrate", "tiny"):
        hrpose.load(path, covariance=True)
