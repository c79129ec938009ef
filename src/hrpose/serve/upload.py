"""A request's body, read within its bounds, and the image and options in it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from hrpose.serve.middleware import Limits, Refusal, busy
from hrpose.serve.schemas import Options

# Of a form: the fields' names and texts; a hundred boxes have some 10,000 bytes.
FIELD_BYTES = 1_000_000

_Boxes = TypeAdapter(list[tuple[float, float, float, float]])


class Uploads:
    """The bodies in memory, bounded over all requests."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextmanager
    def body(self) -> Iterator["Body"]:
        """A body to be read; its bytes count until the context ends."""
        body = Body(self, self._limits)
        try:
            yield body
        finally:
            self._held -= body.size

    def take(self, size: int) -> None:
        """Raises a Refusal where all bodies together become too large."""
        if self._held + size > self._limits.upload_bytes:
            raise busy()
        self._held += size


class Body:
    """The bytes of one request."""

    def __init__(self, uploads: Uploads, limits: Limits) -> None:
        self._uploads = uploads
        self._limits = limits
        self.size = 0

    async def read(self, request: Request) -> bytes:
        """All of it. Raises a Refusal where it is too large, too slow, or breaks off."""
        most = self._limits.max_bytes + FIELD_BYTES
        declared = request.headers.get("content-length", "0")
        if not declared.isascii() or not declared.isdigit() or int(declared) > most:
            raise self._too_large()
        chunks = bytearray()
        pieces = request.stream()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    async with asyncio.timeout(self._limits.idle_seconds):
                        chunk = await anext(pieces, None)
                    if chunk is None:
                        return bytes(chunks)
                    if len(chunks) + len(chunk) > most:
                        raise self._too_large()
                    self._uploads.take(len(chunk))
                    self.size += len(chunk)
                    chunks += chunk
        except TimeoutError:
            reason = (
                f"expected the whole request within {self._limits.body_seconds:g} seconds and no "
                f"pause of {self._limits.idle_seconds:g}; send it again"
            )
            raise Refusal(408, "too_slow", reason, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Refusal(400, "broken_off", "the request broke off; send it again") from None

    def _too_large(self) -> Refusal:
        return too_large(self._limits)


def too_large(limits: Limits) -> Refusal:
    """The refusal of a file with too many bytes."""
    reason = f"image: expected at most {limits.max_bytes:,} bytes, found more; make it smaller"
    return Refusal(413, "too_large", reason)


async def parse(
    body: bytes, content_type: str, options: Options, limits: Limits
) -> tuple[bytes, Options]:
    """The image's bytes and the options, of a form or of an image sent as it is."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        image, options = await _parse_form(body, content_type, options)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        image = body
    else:
        raise Refusal(
            415,
            "wrong_type",
            "content type: expected multipart/form-data with a file 'image', image/* or "
            f"application/octet-stream, found {kind[:100] or 'none'!r}",
        )
    if not image:
        raise Refusal(400, "empty", "image: expected an image, found nothing; send its bytes")
    if len(image) > limits.max_bytes:
        raise too_large(limits)
    return image, options


async def _parse_form(body: bytes, content_type: str, options: Options) -> tuple[bytes, Options]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        Headers({"content-type": content_type}),
        once(),
        max_files=1,
        max_fields=len(Options.model_fields),
        max_part_size=FIELD_BYTES,
    )
    # The bytes are in memory already: a second copy does not go to the disk.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        reason = f"form: cannot be read ({detail}); send multipart/form-data with a file 'image'"
        raise Refusal(400, "bad_form", reason) from error
    try:
        return await _read_form(form, options)
    finally:
        await form.close()


async def _read_form(form: FormData, options: Options) -> tuple[bytes, Options]:
    image = form.get("image")
    if not isinstance(image, UploadFile):
        names = ", ".join(sorted(form.keys()))[:200] or "nothing"
        raise Refusal(400, "bad_form", f"form: expected a file 'image', found {names}")
    fields = [(name, value) for name, value in form.multi_items() if name != "image"]
    if len({name for name, _ in fields}) != len(fields):
        raise Refusal(422, "bad_options", "form: expected each field once, found one twice")
    try:
        options = Options.model_validate({**options.model_dump(), **dict(fields)})
    except ValidationError as error:
        raise bad_options(error.errors()) from None
    return await image.read(), options


def bad_options(errors: object) -> Refusal:
    """The refusal that names the first of pydantic's errors."""
    first = errors[0] if isinstance(errors, list | tuple) and errors else {}
    where = ".".join(str(part) for part in first.get("loc", ())) or "options"
    found = repr(first.get("input"))[:80]
    return Refusal(422, "bad_options", f"{where[:80]}: {first.get('msg', 'wrong')}, found {found}")


def parse_boxes(text: str | None, limits: Limits) -> list[tuple[float, float, float, float]] | None:
    """The boxes [x, y, w, h] of a request; None where it brings none."""
    if text is None:
        return None
    try:
        boxes = _Boxes.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ", ".join(str(part) for part in first["loc"])
        where = f"boxes[{place}]" if place else "boxes"
        reason = f"{where}: {first['msg']}; expected [[x, y, w, h], ...] in finite numbers"
        raise Refusal(422, "bad_boxes", reason) from None
    if len(boxes) > limits.max_boxes:
        reason = f"boxes: expected at most {limits.max_boxes}, found {len(boxes):,}; send fewer"
        raise Refusal(422, "bad_boxes", reason)
    return boxes
