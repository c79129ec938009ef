"""PyTorch files, read without PyTorch: bit for bit what it reads, and nothing of them is run."""

import io
import pickle
import struct
import zipfile
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hrpose.models import HRNet, torch_file
from hrpose.models.checkpoint import read_torch
from refusals import refused

KINDS = {
    dtype: (torch.arange(24, dtype=torch.float64).reshape(2, 3, 4) * 1.3 - 7).to(dtype)
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older"])


def contents() -> dict[str, Callable[[], Any]]:
    torch.manual_seed(0)
    whole = torch.randn(6, 5)
    state = HRNet.from_name("w16-small").state_dict()
    module = {f"module.{key}": value for key, value in state.items()}
    mmpose = {
        f"{'head' if key.startswith('final') else 'backbone'}.{key}": value
        for key, value in state.items()
    }
    return {
        "every type of numbers": lambda: {str(dtype): value for dtype, value in KINDS.items()},
        "views of one storage": lambda: {
            "whole": whole,
            "column": whole[:, 2],
            "turned": whole.T[1:, ::2],
            "single": whole[3, 3],
            "empty": whole[:0],
            "part": whole.view(-1)[7:19].view(3, 4),
        },
        "no tensors": lambda: {"a": [1, 2.5, None, True, "ü", (1, (2,))], 3: -(2**70)},
        "a parameter": lambda: torch.nn.Parameter(whole),
        "official": lambda: state,
        "official, in training": lambda: {"epoch": 3, "state_dict": module},
        "mmpose": lambda: {"meta": {"epoch": 210}, "state_dict": OrderedDict(mmpose)},
    }


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, Tensor):
        assert isinstance(found, np.ndarray)
        known = expected.detach()
        known = known.float() if known.dtype == torch.bfloat16 else known
        assert found.dtype == known.numpy().dtype
        assert found.shape == tuple(known.shape)
        assert found.tobytes() == known.contiguous().numpy().tobytes()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected


@FORMS
@pytest.mark.parametrize("name", contents())
def test_bit_for_bit_what_pytorch_reads(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save(contents()[name](), path, _use_new_zipfile_serialization=zipped)
    same(torch_file.read(path), torch.load(path, weights_only=True))


@FORMS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_any_protocol(tmp_path: Path, protocol: int, zipped: bool) -> None:
    content = {"state_dict": {"a": torch.ones(2, 3), "b": torch.zeros(())}, "n": [3, 300, 70_000]}
    torch.save(
        content, tmp_path / "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    same(torch_file.read(tmp_path / "a.pth"), content)


@FORMS
def test_what_training_programs_add_is_left_out(tmp_path: Path, zipped: bool) -> None:
    arguments = Namespace(lr=0.1, lr_steps=[170, 200], out=tmp_path)
    content = {
        "a": torch.ones(1), "b": np.float64(0.7), "c": np.ones(3), "d": torch.Size([1, 2]),
        "args": arguments,
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = torch_file.read(tmp_path / "a.pth")
    assert found["a"] == 1
    assert all(found[key] is torch_file.LEFT_OUT for key in ("b", "c", "d", "args"))
    # With PyTorch, where it is installed.
    assert read_torch(tmp_path / "a.pth")["a"] == 1


class Call:
    """Unpickling it calls a function; `canary` is made by some of them."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


@FORMS
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_named_and_does_not_run(tmp_path: Path, protocol: int, zipped: bool) -> None:
    canary = tmp_path / "canary"
    trap = {"a": torch.ones(1), "b": Call(open, str(canary), "w")}
    path = tmp_path / "a.pth"
    torch.save(trap, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    # The older form in protocol 0 looks like no PyTorch file.
    with refused("weights-unsafe" if zipped or protocol else "weights-damaged", "a.pth"):
        torch_file.read(path)
    path.write_bytes(pickle.dumps(trap["b"], protocol))
    with pytest.raises(ValueError, match=r"a\.pth"):
        torch_file.read(path)
    assert not canary.exists()


def zipped_pickle(path: Path, pickled: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, data in members.items():
            archive.writestr(f"a/data/{name.removeprefix('_')}", data)
    return path


class Pickles(pickle.Pickler):
    """Writes a tensor with any place in its storage of four numbers."""

    def persistent_id(self, value: Any) -> Any:
        if value is Pickles:
            return ("storage", torch.FloatStorage, "0", "cpu", 4)
        return None


def tensor_at(offset: Any, shape: Any, strides: Any) -> bytes:
    file = io.BytesIO()
    call = Call(torch._utils._rebuild_tensor_v2, Pickles, offset, shape, strides, False, None)
    Pickles(file, 2).dump({"a": call})
    return file.getvalue()


def test_a_tensor_inside_its_storage(tmp_path: Path) -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    path = zipped_pickle(tmp_path / "a.pth", tensor_at(1, (3,), (1,)), _0=data)
    np.testing.assert_array_equal(torch_file.read(path)["a"], [2, 3, 4])


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (2, (3,), (1,)),
        (-1, (3,), (1,)),
        (0, (3,), (2,)),
        (3, (3,), (-1,)),
        (0, (10**12,), (0,)),  # a terabyte, of one number
        (0, (2**40, 0), (1, 2**62)),
        (0, (2,), (2**62,)),
        (0, (2, 2), (1,)),
        (0, (1,) * 40, (1,) * 40),
        (0.0, (2,), (1,)),
        (0, 3, 1),
    ],
)
def test_a_tensor_outside_of_it_is_refused(
    tmp_path: Path, offset: Any, shape: Any, strides: Any
) -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    path = zipped_pickle(tmp_path / "a.pth", tensor_at(offset, shape, strides), _0=data)
    if 0 in (shape if isinstance(shape, tuple) else ()):
        assert torch_file.read(path)["a"].size == 0
        return
    with refused("weights-damaged", "a.pth"):
        torch_file.read(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 8], ids=["empty", "half"])
def test_a_storage_that_is_too_short(tmp_path: Path, data: bytes) -> None:
    path = zipped_pickle(tmp_path / "a.pth", tensor_at(0, (4,), (1,)), _0=data)
    with refused("weights-damaged", "a.pth"):
        torch_file.read(path)


# Of a few bytes each; a reader that trusts them takes all memory, or never ends.
HOSTILE = {
    "tuples in tuples as a key": b"\x80\x02)" + b"2\x86" * 60 + b"}q\x00h\x00s.",
    "lists in lists": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a text of two gigabytes": b"\x80\x02X\xff\xff\xff\x7fa.",
    "bytes of many more": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fa.",
    "a memo at two billion": b"\x80\x02Nr\xff\xff\xff\x7f0j\xff\xff\xff\x7f2.",
    "no end": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "a mark below": b"\x80\x02t.",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f1.",
    "digits without end": b"I" + b"9" * 10_000 + b"\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "an instance": b"(ios\nsystem\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_at_once(tmp_path: Path, name: str) -> None:
    path = zipped_pickle(tmp_path / "a.pth", HOSTILE[name])
    with pytest.raises(ValueError, match=r"a\.pth") as caught:
        torch_file.read(path)
    assert getattr(caught.value, "code", "") in ("weights-damaged", "weights-unsafe")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.full((100,), 3.0)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<2f", 3, 3), struct.pack("<2f", 3, 4), 1))
    with refused("weights-damaged", "a.pth"):
        torch_file.read(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"x", b"PK\x03\x04", b"\x80", b"\x89PNG", b"\xff" * 64):
        (tmp_path / "a.pth").write_bytes(content)
        with refused("weights-damaged", "a.pth"):
            torch_file.read(tmp_path / "a.pth")
    with refused("file-unreadable", "none.pth"):
        torch_file.read(tmp_path / "none.pth")
    with refused("file-unreadable", str(tmp_path)):
        torch_file.read(tmp_path)
