"""The HTTP application: routes, bodies and forms read within their bounds, and errors as JSON."""

import asyncio
import mimetypes
import secrets
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from hrpose._version import __version__
from hrpose.serve.inference import Service
from hrpose.serve.middleware import Access, Limits, Metrics, Middleware, Refusal, busy
from hrpose.serve.schemas import (
    Health,
    LimitsInfo,
    ModelInfo,
    ModelsAnswer,
    Options,
    PosesAnswer,
    Problem,
)
from hrpose.site.build import about

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Of a form, its field names and texts; a hundred boxes take about 10,000 bytes.
FIELD_BYTES = 1_000_000


def create_app(
    service: Service, metrics: Metrics, token: str | None = None, access: Access | None = None
) -> ASGIApp:
    """The application for a service. With a `token`, `/v1` and `/metrics` require it."""
    app = FastAPI(
        title="hrpose",
        version=__version__,
        description="Human poses in images.",
        # FastAPI's pages load scripts from elsewhere; /docs is one of our own.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(_api(service, metrics, token))
    app.include_router(_health(service))
    app.include_router(page({"/": "index.html", "/docs": "docs.html"}))
    return protected(app, metrics, service.limits.requests, access or Access())


def protected(app: FastAPI, metrics: Metrics, requests: int, access: Access) -> ASGIApp:
    """An application behind the middleware, whose errors are JSON with a code and a reason."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)
    middleware = Middleware(app, metrics, requests, access)
    if not access.origins:
        return middleware
    return CORSMiddleware(
        middleware,
        allow_origins=sorted(access.origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
    )


def _api(service: Service, metrics: Metrics, token: str | None) -> APIRouter:
    router = APIRouter(
        dependencies=[Depends(guard(token))] if token else [],
        responses={401: {"model": Problem}} if token else {},
    )
    uploads = Uploads(service.limits)

    @router.post(
        "/v1/poses",
        response_model=PosesAnswer,
        responses=_problems(400, 403, 408, 413, 415, 422, 500, 503),
        # FastAPI would read the query at every request, in three times the time.
        openapi_extra={"parameters": _query_parameters(), "requestBody": _request_body()},
    )
    async def estimate_poses(request: Request) -> Response:
        """Estimate the poses of all persons in an image.

        Send the file as the field `image` of a form, or its bytes as the whole body.
        """
        options = _parse_options("query", request.query_params.multi_items(), {})
        if service.batcher.full:
            raise busy()
        with uploads.body() as body:
            content_type = request.headers.get("content-type", "")
            data, options = await _parse_body(
                await body.read(request), content_type, options, service.limits
            )
            answer = await service.poses(data, options)
        metrics.persons.inc(len(answer.persons))
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @router.get("/v1/models", responses=_problems(500))
    async def list_models() -> ModelsAnswer:
        """The model and detector of this server, and the limits of a request."""
        return _models(service)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}},
    )
    async def read_metrics() -> Response:
        """Metrics for Prometheus."""
        metrics.waiting.set(service.batcher.waiting)
        return Response(metrics.text(), media_type=METRICS_TYPE)

    return router


def _health(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthy() -> Health:
        """The process is alive."""
        return Health(status="ok")

    @router.get("/readyz", responses=_problems(503))
    async def ready() -> Health:
        """The server accepts images now."""
        if not service.batcher.ready or service.batcher.full:
            raise busy()
        return Health(status="ok")

    return router


def page(
    routes: Mapping[str, str], package: str = "hrpose.serve", folder: str = "/page"
) -> APIRouter:
    """The files in `page` of a package, below the path `folder`; and `routes`, paths of some."""
    router = APIRouter(include_in_schema=False)
    # Windows may know .js as text/plain, which browsers refuse to run.
    mimetypes.add_type("text/javascript", ".js")
    files = StaticFiles(packages=[(package, "page")])

    @router.get(folder + "/{name:path}")
    async def page_file(request: Request, name: str) -> Response:
        if "\0" in name:  # an error of the server in older versions of Starlette
            raise HTTPException(404)
        response = await files.get_response(name, request.scope)
        response.headers["Cache-Control"] = "no-cache"  # revalidated by its ETag
        return response

    def route(path: str, name: str) -> None:
        @router.get(path)
        async def page_route(request: Request) -> Response:
            return await page_file(request, name)

    for path, name in routes.items():
        route(path, name)
    return router


def guard(token: str) -> Any:
    """A dependency that refuses requests without the token."""
    scheme = HTTPBearer(auto_error=False, description="The token of this server.")

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> None:
        if sent is None or not secrets.compare_digest(sent.credentials.encode(), token.encode()):
            reason = "expected the header 'Authorization: Bearer TOKEN' with this server's token"
            raise Refusal(401, "wrong_token", reason, {"WWW-Authenticate": "Bearer"})

    return check


def _models(service: Service) -> ModelsAnswer:
    metadata, limits = service.metadata, service.limits
    return ModelsAnswer(
        version=__version__,
        models=[ModelInfo(**about(metadata), engine=service.engine)],
        detector=service.detector.name,
        limits=LimitsInfo(
            max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, max_boxes=limits.max_boxes
        ),
    )


def _query_parameters() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": schema,
        }
        for name, schema in Options.model_json_schema()["properties"].items()
    ]


def _request_body() -> dict[str, Any]:
    form = Options.model_json_schema()
    form["properties"] = {
        "image": {"type": "string", "format": "binary", "description": "An image file."},
        **form["properties"],
    }
    form["required"] = ["image"]
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "image/*": image,
            "application/octet-stream": image,
        },
    }


class Uploads:
    """The request bodies in memory, bounded over all requests."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    @contextmanager
    def body(self) -> Iterator["Body"]:
        """A body to read; its bytes count until the context ends."""
        body = Body(self, self._limits)
        try:
            yield body
        finally:
            self._held -= body.size

    def reserve(self, size: int) -> None:
        """Count `size` more bytes. Raises a Refusal where all bodies together are too large."""
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
        """The whole body. Raises a Refusal where it is too large, too slow, or incomplete."""
        most = self._limits.max_bytes + FIELD_BYTES
        declared = request.headers.get("content-length", "0")
        if not declared.isascii() or not declared.isdigit() or int(declared) > most:
            raise _too_large(self._limits)
        body = bytearray()
        chunks = request.stream()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    async with asyncio.timeout(self._limits.idle_seconds):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return bytes(body)
                    if len(body) + len(chunk) > most:
                        raise _too_large(self._limits)
                    self._uploads.reserve(len(chunk))
                    self.size += len(chunk)
                    body += chunk
        except TimeoutError:
            reason = (
                f"expected the whole request within {self._limits.body_seconds:g} seconds and no "
                f"pause of {self._limits.idle_seconds:g}; send it again"
            )
            raise Refusal(408, "too_slow", reason, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise Refusal(400, "broken_off", "the request broke off; send it again") from None


async def _parse_body(
    body: bytes, content_type: str, options: Options, limits: Limits
) -> tuple[bytes, Options]:
    """The image file's bytes and the options, from a form or from an image as the whole body."""
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
        raise _too_large(limits)
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
    # The bytes are in memory already: no second copy goes to disk.
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
    return await image.read(), _parse_options("form", fields, options.model_dump())


def _parse_options(where: str, fields: list[tuple[str, Any]], defaults: dict[str, Any]) -> Options:
    """The options in a query or form. Raises a Refusal where one is unknown, wrong or repeated."""
    found = dict(fields)
    if len(found) < len(fields):
        reason = f"{where}: expected each option once, found one twice"
        raise Refusal(422, "bad_options", reason)
    try:
        return Options.model_validate({**defaults, **found})
    except ValidationError as error:
        raise _bad_options(error) from None


def _too_large(limits: Limits) -> Refusal:
    """The refusal of a file with too many bytes."""
    reason = f"image: expected at most {limits.max_bytes:,} bytes, found more; make it smaller"
    return Refusal(413, "too_large", reason)


def _bad_options(error: ValidationError) -> Refusal:
    """The refusal that names the first of pydantic's errors."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    reason = f"{where}: {first['msg']}, found {repr(first['input'])[:80]}"
    return Refusal(422, "bad_options", reason)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


def _problem(
    status: int,
    error: str,
    reason: str,
    headers: dict[str, str] | None = None,
    cause: str | None = None,
) -> Response:
    content = Problem(error=error, reason=reason, cause=cause).model_dump(exclude_none=True)
    return JSONResponse(content, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _problem(error.status, error.code, error.reason, error.headers, error.cause)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(
        error.status_code,
        "not_found" if error.status_code == 404 else "not_allowed",
        f"{request.method} {request.scope['path'][:200]}: {error.detail}; see /openapi.json",
        dict(error.headers or {}),
    )


async def _failed(request: Request, error: Exception) -> Response:
    # The cause goes to the log, not to the client.
    return _problem(500, "broken", "the server failed; its log says why")
