"""XML of strangers, read element by element, without entities.

A document type is refused: with it come entities, which grow without bounds or reach for files.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from hrpose.errors import UserError

MAX_BYTES = 500_000_000
_MAX_DEPTH = 50
_PIECE = 1 << 16


class _Builder(ET.TreeBuilder):
    """Builds the elements below the root, hands each over when it ends, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = ""
        self.ready: list[ET.Element] = []
        self._open: list[ET.Element] = []

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise UserError("a document type (DTD), which is not read")

    def start(self, tag: str, attrs: dict[str, str]) -> ET.Element:
        if len(self._open) >= _MAX_DEPTH:
            raise UserError(f"elements inside each other more than {_MAX_DEPTH} deep")
        element = super().start(tag, attrs)
        self.root = self.root or tag
        self._open.append(element)
        return element

    def end(self, tag: str) -> ET.Element:
        element = super().end(tag)
        self._open.pop()
        if len(self._open) == 1:
            self._open[0].clear()
            self.ready.append(element)
        return element


def children(path: Path, root: str) -> Iterator[ET.Element]:
    """The elements right below the root, whose name is expected to be `root`, one by one.

    Raises UserError, naming the file, where it is missing, too large, damaged, of another root, or
    has a document type.
    """
    builder = _Builder()
    parser = ET.XMLParser(target=builder)
    read = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                read += len(piece)
                if read > MAX_BYTES:
                    raise UserError(f"more than {MAX_BYTES:,} bytes")
                parser.feed(piece)
                if builder.root not in ("", root):
                    raise UserError(f"<{builder.root[:40]!r}>")
                yield from builder.ready
                builder.ready.clear()
        parser.close()
        yield from builder.ready
        if not builder.root:
            raise UserError("an empty file")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: expected XML with <{root}>, found {error}") from error
