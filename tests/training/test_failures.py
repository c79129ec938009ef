"""What stops a training from outside is one line, and what nobody knows stays as it is."""

import errno
import os
from pathlib import Path

import pytest

from hrpose.errors import UserError
from hrpose.image import ImageError
from hrpose.training.trainer import explained

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
OUT = Path("runs/w32")
MAKE_ROOM = (
    "runs/w32: No space left on device; what was written before is whole: make room, and go on "
    "with --resume"
)


def caused_by(cause: Exception) -> UserError:
    error = UserError("runs/w32/checkpoints/next.ckpt: cannot be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FULL, MAKE_ROOM),
        (caused_by(FULL), MAKE_ROOM),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. It is possible"),
            "DataLoader worker (pid 7) is killed by signal: Killed, as systems do where memory "
            "runs out; go on with --resume, and with fewer training.workers if it happens again",
        ),
        (
            ImageError(
                "Caught PictureError in DataLoader worker process 0.\nOriginal Traceback (most "
                "recent call last):\n  File ...\nhrpose.image.PictureError: a.jpg: cut off; copy "
                "it again\n"
            ),
            "a.jpg: cut off; copy it again",
        ),
        (
            RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:7"),
            "another process of this training has ended; what it said is the reason",
        ),
    ],
)
def test_what_is_known_is_one_line(error: Exception, line: str) -> None:
    assert str(explained(error, OUT)) == line


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake of ours"),
        OSError(errno.EACCES, "Permission denied"),
        UserError("a line of its own; already said well"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_the_rest_stays_as_it_is(error: Exception) -> None:
    assert explained(error, OUT) is None
