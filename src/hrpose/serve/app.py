"""The routes, as an ASGI application."""

import mimetypes
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from hrpose._version import __version__
from hrpose.serve import upload
from hrpose.serve.middleware import Door, Figures, Refusal, busy
from hrpose.serve.schemas import (
    Health,
    LimitsInfo,
    ModelInfo,
    ModelsAnswer,
    Options,
    PosesAnswer,
    Problem,
)
from hrpose.serve.service import Service
from hrpose.viz import keypoint_colors, limb_colors

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def create_app(service: Service, figures: Figures, token: str | None = None) -> ASGIApp:
    """The server for a service. With a `token`, `/v1` and `/metrics` ask for it."""
    app = FastAPI(
        title="hrpose",
        version=__version__,
        description="Human poses in images.",
        # The interactive pages load scripts from elsewhere; /openapi.json stays.
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(_api(service, figures, token))
    app.include_router(_health(service))
    app.include_router(_page())
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _wrong_query)
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_exception_handler(Exception, _broken)
    return Door(app, figures, service.limits.requests)


def _api(service: Service, figures: Figures, token: str | None) -> APIRouter:
    router = APIRouter(
        dependencies=[Depends(_guard(token))] if token else [],
        responses={401: {"model": Problem}} if token else {},
    )
    uploads = upload.Uploads(service.limits)

    @router.post(
        "/v1/poses",
        response_model=PosesAnswer,
        responses=_problems(400, 403, 408, 413, 415, 422, 500, 503),
        openapi_extra={"requestBody": _request_body()},
    )
    async def find_poses(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Find the keypoints of the people in an image.

        Send a form with a file `image`, or the image's bytes as they are.
        """
        if service.batcher.full:
            raise busy()
        if len(request.query_params) < len(request.query_params.multi_items()):
            reason = "query: expected each option once, found one twice"
            raise Refusal(422, "bad_options", reason)
        with uploads.body() as body:
            content_type = request.headers.get("content-type", "")
            data, options = await upload.parse(
                await body.read(request), content_type, options, service.limits
            )
            answer = await service.poses(data, options)
        figures.persons.inc(len(answer.persons))
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @router.get("/v1/models", responses=_problems(500))
    async def list_models() -> ModelsAnswer:
        """What this server runs, and what a request may bring."""
        return _models(service)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text."}},
    )
    async def metrics() -> Response:
        """Figures for Prometheus."""
        figures.waiting.set(service.batcher.waiting)
        return Response(figures.text(), media_type=METRICS_TYPE)

    return router


def _health(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthy() -> Health:
        """The process answers."""
        return Health(status="ok")

    @router.get("/readyz", responses=_problems(503))
    async def ready() -> Health:
        """The network takes images."""
        if not service.batcher.ready or service.batcher.full:
            raise busy()
        return Health(status="ok")

    return router


def _page() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    # Windows may know .js as text/plain, which browsers refuse to run.
    mimetypes.add_type("text/javascript", ".js")
    files = StaticFiles(packages=[("hrpose.serve", "page")])

    @router.get("/page/{name}")
    async def page_file(request: Request, name: str) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers["Cache-Control"] = "no-cache"  # asked for again, and answered by the ETag
        return response

    @router.get("/")
    async def index(request: Request) -> Response:
        return await page_file(request, "index.html")

    return router


def _guard(token: str) -> Any:
    """A dependency that lets only those in who know the token."""
    scheme = HTTPBearer(auto_error=False, description="The token the server was started with.")

    async def check(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)],
    ) -> None:
        if given is None or not secrets.compare_digest(given.credentials.encode(), token.encode()):
            reason = "expected the header 'Authorization: Bearer TOKEN' with this server's token"
            raise Refusal(401, "wrong_token", reason, {"WWW-Authenticate": "Bearer"})

    return check


def _models(service: Service) -> ModelsAnswer:
    metadata, limits = service.metadata, service.limits
    model = ModelInfo(
        name=metadata.title,
        network=metadata.network,
        input_width=metadata.input_wh[0],
        input_height=metadata.input_wh[1],
        keypoints=list(metadata.skeleton.keypoints),
        limbs=list(metadata.skeleton.limbs),
        flip_pairs=list(metadata.skeleton.flip_pairs),
        keypoint_colors=keypoint_colors(metadata.skeleton),
        limb_colors=limb_colors(metadata.skeleton),
        codec=metadata.codec.name,
        training_data=metadata.training_data,
        license=metadata.license,
        scores=dict(metadata.scores),
    )
    return ModelsAnswer(
        version=__version__,
        models=[model],
        detector=service.detector.name,
        limits=LimitsInfo(
            max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, max_boxes=limits.max_boxes
        ),
    )


def _request_body() -> dict[str, Any]:
    form = Options.model_json_schema()
    form["properties"] = {
        "image": {"type": "string", "format": "binary", "description": "The image's file."},
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


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem} for status in statuses}


def _problem(
    status: int, error: str, reason: str, headers: dict[str, str] | None = None
) -> Response:
    content = Problem(error=error, reason=reason).model_dump()
    return JSONResponse(content, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _problem(error.status, error.code, error.reason, error.headers)


async def _wrong_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Their places begin with "query".
    wrong = [{**found, "loc": found["loc"][1:]} for found in error.errors()]
    return await _refused(request, upload.bad_options(wrong))


async def _no_such_thing(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(
        error.status_code,
        "not_found" if error.status_code == 404 else "not_allowed",
        f"{request.method} {request.scope['path'][:200]}: {error.detail}; see /openapi.json",
        dict(error.headers or {}),
    )


async def _broken(request: Request, error: Exception) -> Response:
    # What went wrong is for the log, not for the client.
    return _problem(500, "broken", "the server failed; its log says why")
