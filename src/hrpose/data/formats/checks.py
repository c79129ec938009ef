"""What all the readers check in the same way; each complaint names file and entry."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrpose.data.images import stays_inside
from hrpose.errors import UserError

_MOST = 1e6  # pixels; images have at most 65,535 a side, keypoints may lie outside
_MAX_BYTES = 500_000_000
_MOST_LETTERS = 1000


def printable(text: str) -> str:
    """Foreign text for a message of one line."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:80])
    return f"{plain}..." if len(text) > 80 else plain


def shown(value: object) -> str:
    """Any foreign value for a message of one line."""
    return printable(value if isinstance(value, str) else repr(value))


def wrong(where: str, expected: str, found: object) -> UserError:
    """The error for a value that is not as expected."""
    said = "nothing" if found is None or found == "" else shown(found)
    return UserError(f"{where}: expected {expected}, found {said}")


def repeated(where: str, keypoint: str, remedy: str = "") -> UserError:
    """The error for a keypoint that one person has twice."""
    hint = f"; {remedy}" if remedy else ""
    return UserError(
        f"{where}: expected each keypoint of a person once, found '{printable(keypoint)}' "
        f"again{hint}"
    )


def number(value: object, where: str, most: float = _MOST) -> float:
    """A finite number, from a number or its text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        result = float(value)
    except (ValueError, OverflowError):
        raise wrong(where, "a number", value) from None
    if not math.isfinite(result) or abs(result) > most:
        raise wrong(where, f"a finite number, at most {most:,.0f}", value)
    return result


def whole(value: object, where: str, least: int, most: int) -> int:
    """A whole number between two others, from a number or its text."""
    result = number(value, where, max(_MOST, most))
    if result != int(result) or not least <= result <= most:
        raise wrong(where, f"a whole number from {least} to {most}", value)
    return int(result)


def size_wh(width: object, height: object, where: str) -> tuple[int, int]:
    """The size of an image."""
    return whole(width, f"{where}: width", 1, 65535), whole(height, f"{where}: height", 1, 65535)


def image_name(name: object, where: str) -> str:
    """The name of an image that leads nowhere out of its folder."""
    if not isinstance(name, str) or not name or not stays_inside(name):
        raise wrong(where, "the relative name of an image, without '..'", name)
    if len(name) > _MOST_LETTERS or any(len(part.encode()) > 255 for part in name.split("/")):
        raise wrong(where, "a name that a file can have", name)
    return name


def keypoint_name(name: object, where: str) -> str:
    """The name of a keypoint: text of one line, not empty."""
    if not isinstance(name, str) or not name.strip() or not name.strip().isprintable():
        raise wrong(where, "the name of a keypoint", name)
    return name.strip()


def file_name(text: str) -> str:
    """A text from a source as the name of a file to write."""
    return re.sub(r"[^\w-]+", "-", text).strip("-").lower() or "annotations"


def entry(value: object, where: str) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise wrong(where, "an object", type(value).__name__)
    return value


def entries(value: object, where: str) -> list[Any]:
    """A JSON list; nothing counts as an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(where, "a list", type(value).__name__)
    return value


def text_of(path: Path) -> str:
    """A text file, UTF-8 with or without a mark, of bounded size."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError(f"{path}: expected at most {_MAX_BYTES:,} bytes, found more")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text in UTF-8, found other bytes ({error})") from error
