"""A short run of `make fuzz` (the long one has 100,000 files)."""

from pathlib import Path

import numpy as np
import pytest

from fuzz.labels import HDF5_NAMES
from fuzz.mutate import mutate
from fuzz.target import close
from fuzz.targets import ALLOWED, TARGETS
from hrpose.errors import UserError
from refusals import refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_by_one_line(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    seeds, read = TARGETS[name](tmp_path)
    reasons = []
    try:
        for _ in range(20 if name in HDF5_NAMES else 150):
            try:
                read(mutate(rng, seeds))
            except ALLOWED as error:
                reasons.append(str(error))
    finally:
        close(read)
    assert len(reasons) > 10
    if name not in ("recipes", "skeletons"):  # a line for each wrong value
        assert not any("\n" in reason for reason in reasons)


def test_an_onnx_file_whose_metadata_are_no_text(tmp_path: Path) -> None:
    (seed,), read = TARGETS["onnx"](tmp_path)
    at = seed.index(b"hrpose") + 1
    with refused("weights-damaged", "a.onnx"):
        read(seed[:at] + b"\xff" + seed[at + 1 :])


def test_a_keypoint_too_large_for_a_float(tmp_path: Path) -> None:
    (seed,), read = TARGETS["annotations"](tmp_path)
    with refused("annotations-invalid", "annotation 1: 'keypoints'"):
        read(seed.replace(b"[1, 2, 2,", b"[1, 2, " + b"9" * 400 + b","))


def test_a_source_that_is_no_text(tmp_path: Path) -> None:
    (seed,), read = TARGETS["annotations"](tmp_path)
    read(seed.replace(b'"id": 1, "file_name"', b'"source": "\\ud800", "id": 1, "file_name"'))


def test_a_query_that_is_no_text(tmp_path: Path) -> None:
    _, read = TARGETS["requests"](tmp_path)
    try:
        for line in (b"GET /nothing?\xbd", b"POST ?a=\xff", b"POST /v1/poses/?\xe4"):
            with pytest.raises(UserError):
                read(line + b"\n\n")
    finally:
        close(read)


def test_a_folder_whose_name_is_too_long(tmp_path: Path) -> None:
    (seed,), read = TARGETS["yolo-yaml"](tmp_path)
    with refused("annotations-invalid", "train"):
        read(seed.replace(b"train: images/train", b"train: " + b"x" * 400))
