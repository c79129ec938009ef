"""The golden vectors in the package are a part of those of the repository."""

from pathlib import Path

import numpy as np
import pytest

import golden_rules
from evaluation.parity.pack_golden import COPIED, KEPT, packed_arrays, packed_facts
from hrpose.evaluation.parity.golden import Golden
from refusals import refused

PART = Golden.open()


@pytest.mark.parametrize("name", KEPT)
def test_the_packages_arrays_are_slices_of_the_full_set(name: str) -> None:
    expected, found = packed_arrays(name), PART.arrays(name)
    assert list(found) == list(expected) == list(golden_rules.arrays(name))
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype
        assert found[key].size > 0


@pytest.mark.parametrize("name", [*KEPT, *COPIED])
def test_the_packages_facts_are_those_of_the_full_set(name: str) -> None:
    assert PART.facts(name) == packed_facts(name)


def test_the_part_knows_that_it_is_one_and_is_small() -> None:
    assert PART.is_part
    assert not Golden.open(golden_rules.GOLDEN).is_part
    assert sum(file.stat().st_size for file in PART.folder.iterdir()) < 1_600_000


def test_a_result_is_cut_as_the_arrays_were() -> None:
    full = golden_rules.arrays("pipeline")["crop3_image"]
    cut = PART.cut("crop3_image", "pipeline", full)
    np.testing.assert_array_equal(cut, PART.arrays("pipeline")["crop3_image"])
    assert PART.cut("crop3_matrix", "pipeline", full) is not None
    assert PART.cut("crop3_matrix", "pipeline", full).shape == full.shape


def test_a_folder_without_vectors(tmp_path: Path) -> None:
    with refused("golden-missing", "pipeline.npz"):
        Golden.open(tmp_path)


def test_broken_vectors_are_named(tmp_path: Path) -> None:
    (tmp_path / "pipeline.npz").write_bytes(b"PK no archive")
    (tmp_path / "pipeline.json").write_text("{")
    with refused("golden-damaged", "pipeline.npz"):
        Golden.open(tmp_path).arrays("pipeline")
    with refused("golden-damaged", "pipeline.json"):
        Golden.open(tmp_path).facts("pipeline")
    with refused("file-unreadable", "hrnet.json"):
        Golden.open(tmp_path).facts("hrnet")
