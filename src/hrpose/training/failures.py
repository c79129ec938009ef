"""What stops a training from outside, in one line each: no traceback says it better."""

import errno
import re
from pathlib import Path

from torch import distributed

from hrpose.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def explained(error: Exception, out: Path) -> UserError | None:
    """What happened and what to do, if it is known; `out` is the folder of the training."""
    message = str(error)
    disk = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
    if disk is not None and disk.errno in _NO_ROOM:
        return UserError(
            f"{out}: {disk.strerror}; what was written before is whole: make room, and go on with "
            "--resume"
        )
    if re.search(r"DataLoader worker .*(killed by signal|exited unexpectedly)", message):
        return UserError(
            f"{message.splitlines()[0].partition('. ')[0]}, as systems do where memory runs out; "
            "go on with --resume, and with fewer training.workers if it happens again"
        )
    if isinstance(error, UserError) and message.startswith("Caught "):
        # PyTorch hands on a worker's error as its traceback, whose last line is the message.
        return UserError(message.rstrip().splitlines()[-1].partition("Error: ")[2])
    lost = isinstance(error, RuntimeError) and any(words in message for words in _LOST)
    if lost or isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return UserError("another process of this training has ended; what it said is the reason")
    return None
