"""Reading PyTorch's pickled files without ever running code from them."""

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hrpose.errors import UserError


class _Notes:
    """Stands for the NumPy values that training programs note beside the weights.

    It takes anything and keeps nothing. NumPy's own functions would have to be trusted with the
    file's bytes.
    """

    def __new__(cls, *_parts: object) -> "_Notes":
        return object.__new__(cls)

    def __setstate__(self, _state: object) -> None:
        pass


_NUMPY_NAMES = (
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
)


def read_torch(path: Path) -> Any:
    """Unpickle a PyTorch file with nothing but tensors and plain values in it.

    NumPy values are read as notes without content. Raises UserError, naming what a file asks for,
    where it would need more than that. Members of its zip file must be stored, as PyTorch writes
    them: PyTorch unpacks others without a bound.
    """
    _check_stored(path)
    safe = torch.serialization.safe_globals([(_Notes, name) for name in _NUMPY_NAMES])
    try:
        with warnings.catch_warnings(), safe:
            # PyTorch warns of a pickle's age; what matters is whether it can be read safely.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A broken file can raise anything.
        raise _explained(path, error) from error


def _check_stored(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [m for m in archive.infolist() if m.compress_type != zipfile.ZIP_STORED]
    except Exception:  # PyTorch's older form, or damage that is explained later
        return
    if packed:
        raise UserError(
            f"{path}: refused, because its member {packed[0].filename!r} is compressed; expected a "
            "file as torch.save writes it"
        )


def _explained(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{path}: cannot be read ({error.strerror})")
    asked = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and (asked or _first_byte(path) == b"\x80"):
        what = f"it asks for {asked[1]}, which is code" if asked else "it is another kind of pickle"
        return UserError(
            f"{path}: refused, because it is not only tensors and plain values: {what}; expected "
            "a PyTorch file with the state dict alone"
        )
    return UserError(
        f"{path}: expected a PyTorch file, found another or a broken one ({type(error).__name__})"
    )


def _first_byte(path: Path) -> bytes:
    """Nothing where it cannot be read: what went wrong before is said all the same."""
    try:
        with path.open("rb") as file:
            return file.read(1)
    except OSError:
        return b""
