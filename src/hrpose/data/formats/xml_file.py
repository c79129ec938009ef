"""Untrusted XML, read element by element by defusedxml: no document type, hence no entities."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, DTDForbidden
from defusedxml.ElementTree import iterparse

from hrpose.errors import UserError

MAX_BYTES = 500_000_000
_MAX_DEPTH = 50


def children(path: Path, root: str) -> Iterator[Element]:
    """The elements right below the root, whose name is expected to be `root`, one by one.

    An element is forgotten when the next is asked for. Raises UserError, naming the file, where it
    is missing, too large, damaged, of another root, or has a document type.
    """
    expected = f"{path}: expected XML with <{root}>"
    try:
        with path.open("rb") as file:
            if path.stat().st_size > MAX_BYTES:
                raise UserError(f"{expected}, found more than {MAX_BYTES:,} bytes")
            opened: list[Element] = []
            for event, element in iterparse(file, ("start", "end"), forbid_dtd=True):
                if event == "start":
                    opened.append(element)
                    if opened[0].tag != root:
                        raise UserError(f"{expected}, found <{opened[0].tag[:40]!r}>")
                    if len(opened) > _MAX_DEPTH:
                        raise UserError(f"{expected}, found elements more than {_MAX_DEPTH} deep")
                    continue
                opened.pop()
                if len(opened) == 1:
                    yield element
                    opened[0].clear()
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except DTDForbidden as error:
        raise UserError(f"{expected}, found a document type (DTD), which is not read") from error
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise UserError(f"{expected}, found {error}") from error
