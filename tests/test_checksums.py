"""One flipped bit anywhere in a file that hrpose wrote is noticed when the file is loaded."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save
from typer.testing import CliRunner

from batch_workers import frozen
from hrpose.batch.job import failed_row, failures, read_images, to_table, write
from hrpose.batch.source import open_source
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.metadata import Metadata, read_metadata, write_with_metadata
from hrpose.models import HRNet, checkpoint, convert
from hrpose.session import open_session
from hrpose.training.checkpointing import AtomicCheckpointIO
from refusals import check_refusal, refused
from tiny_weights import METADATA, write_tiny_weights

W16 = Metadata("w16-small", (96, 128), name="w16-test")
POSITIONS = 60


@cache
def network() -> HRNet:
    torch.manual_seed(0)
    return HRNet.from_name("w16-small")


def safetensors(folder: Path) -> Path:
    checkpoint.save(folder / "w.safetensors", network(), W16)
    return folder / "w.safetensors"


def backbone(folder: Path) -> Path:
    state = {k: v for k, v in network().state_dict().items() if not k.startswith("final_layer.")}
    torch.save(state, folder / "w.pth")
    convert.write_hrpose(folder / "w.safetensors", convert.read(folder / "w.pth"), None)
    return folder / "w.safetensors"


def ckpt(folder: Path) -> Path:
    state = {f"network.{key}": value for key, value in network().state_dict().items()}
    content = {"state_dict": state, Metadata.keys[0]: W16.to_json()}
    AtomicCheckpointIO().save_checkpoint(content, folder / "w.ckpt")
    return folder / "w.ckpt"


def onnx(folder: Path) -> Path:
    content = write_tiny_weights(folder / "w.onnx").read_bytes()
    write_with_metadata(folder / "w.onnx", content, METADATA)
    return folder / "w.onnx"


def onnx_of_others(folder: Path) -> Path:
    convert.write_hrpose(folder / "w.onnx", convert.read(safetensors(folder)), W16)
    return folder / "w.onnx"


def results(folder: Path) -> Path:
    job = frozen(folder, 300, 300)
    rows = [
        {"file": name, "width": 8, "height": 8, "status": "no-persons", "persons": []}
        for name in job.names(0)
    ]
    write(job, 0, to_table(rows))
    return job.results(0)


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "safetensors": (safetensors, checkpoint.load),
    "backbone": (backbone, convert.read),
    "ckpt": (ckpt, checkpoint.load),
    "ckpt, converted": (ckpt, convert.read),
    "onnx": (onnx, open_session),
    "onnx, to train": (onnx_of_others, checkpoint.read_onnx),
    "results": (results, lambda path: list(read_images(path.parents[1]))),
}


@pytest.mark.parametrize(
    "kind",
    [
        k if k in ("safetensors", "results") else pytest.param(k, marks=pytest.mark.slow)
        for k in KINDS
    ],
)
def test_a_flipped_bit_is_noticed(kind: str, tmp_path: Path) -> None:
    make, load = KINDS[kind]
    path = make(tmp_path)
    load(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    at = whole.find(b"sha256.hrpose")
    checksum, ends = range(at, at + 92, 9), (0, 1, 7, 8, len(whole) - 1, len(whole) - 90)
    head, anywhere = rng.integers(2000, size=10), rng.integers(len(whole), size=POSITIONS)
    for position in (*checksum, *ends, *head.tolist(), *anywhere.tolist()):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            load(path)
        assert caught.value.code in ("weights-damaged", "job-damaged"), (position, caught.value)


def test_a_damaged_result_is_noticed_when_its_failures_are_listed(tmp_path: Path) -> None:
    job = frozen(tmp_path, 300, 300)
    rows = [failed_row(name, f"{name}: cut off", "image-damaged") for name in job.names(0)]
    write(job, 0, to_table(rows))
    assert failures(job, 2) == [row["reason"] for row in rows[:2]]
    content = bytearray(job.results(0).read_bytes())
    content[len(content) // 3] ^= 4
    job.results(0).write_bytes(content)
    with refused("job-damaged", "part-"):
        failures(job, 2)


def test_a_damaged_list_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    names = pa.array([f"{i:06}.jpg" for i in range(500)])
    pq.write_table(
        pa.table({"file": names}), path, compression="none", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    content = path.read_bytes()
    path.write_bytes(content.replace(b"000250.jpg", b"000251.jpg", 1))
    with refused("list-invalid", "list.parquet"):
        list(open_source(str(path)).names())


def test_a_command_says_so_in_one_line(tmp_path: Path) -> None:
    path = safetensors(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)
    ran = CliRunner().invoke(app, ["export", str(path), "--out", "out.onnx"])
    check_refusal(ran, "weights-damaged", "w.safetensors", "sha256")


def test_files_without_a_checksum_are_read_as_before(tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in network().state_dict().items()}
    older = tmp_path / "older.safetensors"
    older.write_bytes(save(state, {Metadata.keys[0]: W16.to_json()}))
    assert checkpoint.load(older)[1] == W16
    torch.save(
        {
            "state_dict": {f"network.{key}": value for key, value in state.items()},
            Metadata.keys[0]: W16.to_json(),
        },
        tmp_path / "older.ckpt",
    )
    assert checkpoint.load(tmp_path / "older.ckpt")[1] == W16
    assert open_session(write_tiny_weights(tmp_path / "older.onnx")).metadata == METADATA


def test_a_change_on_purpose_gets_a_new_checksum(tmp_path: Path) -> None:
    path = onnx(tmp_path)
    content = path.read_bytes().replace(b"heatmaps", b"heatmapz")
    path.write_bytes(content)
    with refused("weights-damaged", "hrpose.checksum"):
        open_session(path)
    assert read_metadata(path) == METADATA  # for lists, without the time that a hash takes
    write_with_metadata(path, content.replace(b"heatmapz", b"heatmaps"), METADATA)
    open_session(path)


def test_weights_with_the_mark_of_a_checksum_in_them_are_refused(tmp_path: Path) -> None:
    content = save({"sha256.hrpose": torch.ones(1)})
    with refused("weights-unsuitable", "sha256.hrpose"):
        write_with_metadata(tmp_path / "a.safetensors", content, METADATA)
