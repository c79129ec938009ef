"""The HTTP application of `hrpose label`: a project's images and labels for the page.

It has the middleware, the token and the page's files of `hrpose serve`. Every change that is
answered with 200 is on the disk.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from hrpose._version import __version__
from hrpose.errors import UserError
from hrpose.file_kinds import kind_of
from hrpose.image import encode, read_reduced
from hrpose.label.learn import Learner, Model
from hrpose.label.project import Project
from hrpose.label.store import Change, Conflict, ImageRow, Label, PersonRow
from hrpose.label.suggestions import Assistant
from hrpose.serve.app import Uploads, guard, page, protected
from hrpose.serve.middleware import Access, Limits, Metrics, Refusal
from hrpose.serve.server import access_at, run
from hrpose.viz import keypoint_colors, limb_colors

# Of a request's body: two hundred changes of a skeleton with 133 keypoints.
_LIMITS = Limits(max_bytes=2_000_000)
_THUMBNAIL = 128  # pixels of the shorter side
# What every browser displays; others are sent as JPEG.
_SHOWN = {
    "JPEG image": "image/jpeg",
    "PNG image": "image/png",
    "WebP image": "image/webp",
    "GIF image": "image/gif",
    "BMP image": "image/bmp",
}
Kind = TypeVar("Kind", bound=BaseModel)
Read = TypeVar("Read")
Name = Annotated[str, Field(max_length=60)]
Id = Annotated[str, Field(pattern="^[0-9A-Za-z-]{8,64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LabelBody(_Body):
    """A person's label: `box` [x, y, w, h], or null where it follows the keypoints; of each
    keypoint [x, y, state], state 2 visible, 1 hidden, 0 outside, or null where it is not labeled.
    """

    box: list[float] | None
    keypoints: list[list[float] | None]


class ChangeBody(_Body):
    """A change of a person (`label` null deletes), or without one whether an image is done."""

    id: Id
    image: Count
    version: Count
    person: Id | None = None
    label: LabelBody | None = None
    done: bool = False


class ChangesBody(_Body):
    """Changes that are made together or not at all; `by` is who makes them."""

    by: Name = ""
    changes: Annotated[list[ChangeBody], Field(min_length=1, max_length=200)]


class BoxBody(_Body):
    """A box to predict the keypoints in."""

    box: Annotated[list[float], Field(min_length=4, max_length=4)]


class VerdictBody(_Body):
    """A finding that is right as it is."""

    by: Name = ""
    key: Annotated[str, Field(max_length=10_000)]


class ModelBody(_Body):
    """A model of the project, by its name."""

    name: Annotated[str, Field(pattern="^[0-9]{3,9}$")]


def create_app(
    project: Project,
    assistant: Assistant,
    learner: Learner,
    token: str | None = None,
    access: Access | None = None,
) -> ASGIApp:
    """The application for a project. With a `token` all but the page's own files requires it."""
    app = FastAPI(title="hrpose label", version=__version__, docs_url=None, redoc_url=None)
    router = APIRouter(prefix="/v1/label", dependencies=[Depends(guard(token))] if token else [])
    _Labels(project, assistant).add_to(router)
    _Models(project, assistant, learner).add_to(router)
    app.include_router(router)
    app.include_router(page({"/": "index.html"}, "hrpose.label", "/label"))
    app.include_router(page({}))
    return protected(app, Metrics(), _LIMITS.requests, access or Access())


def serve(
    project: Project,
    assistant: Assistant,
    learner: Learner,
    listener: socket.socket,
    *,
    token: str | None = None,
    access: Access | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called before the first request is accepted."""
    app = create_app(project, assistant, learner, token, access_at(listener, access or Access()))
    ready()
    run(app, listener)


class _Labels:
    """The routes, which run in threads: each waits for the disk, or for the model."""

    def __init__(self, project: Project, assistant: Assistant) -> None:
        self._project = project
        self._assistant = assistant

    def add_to(self, router: APIRouter) -> None:
        router.get("/project")(self.about)
        router.get("/images")(self.images)
        router.get("/images/{image_id}")(self.image)
        router.get("/images/{image_id}/file")(self.file)
        router.get("/images/{image_id}/thumbnail")(self.thumbnail)
        router.get("/images/{image_id}/findings")(self.findings)
        router.post("/images/{image_id}/findings")(self.accept)
        router.post("/images/{image_id}/pose")(self.pose)
        router.post("/changes")(self.change)
        router.get("/news")(self.news)
        router.get("/annotations.json")(self.annotations)
        router.get("/agreement")(self._project.agreement)
        router.post("/agreement")(self.take_agreement)

    def about(self) -> dict[str, Any]:
        """The skeleton of the project, and the model that suggests."""
        skeleton, estimator = self._project.skeleton, self._assistant.estimator
        return {
            "version": __version__,
            "folder": self._project.root.resolve().name,
            "skeleton": {
                "name": skeleton.name,
                "category": skeleton.category or skeleton.name,
                "keypoints": skeleton.keypoints,
                "limbs": skeleton.limbs,
                "flip_pairs": skeleton.flip_pairs,
                "keypoint_colors": keypoint_colors(skeleton),
                "limb_colors": limb_colors(skeleton),
            },
            "model": None if estimator is None else self._assistant.model,
        }

    def images(self) -> dict[str, Any]:
        """All images, the most informative first, and the revision that this was."""
        store = self._project.store
        revision, counts, ready = store.revision, store.counts(), self._assistant.ready
        rows = {image.id: image for image in self._project.images()}
        order = [image for image in self._assistant.order() if image in rows]
        images = [_image(rows[image], counts.get(image, 0)) for image in order]
        return {"revision": revision, "ready": ready, "images": images}

    def image(self, image_id: int) -> dict[str, Any]:
        """An image with its labels and what the model suggests: null until it is known."""
        image = self._find(image_id)
        try:
            width, height = self._project.sized(image)
        except UserError as error:
            raise Refusal(422, "bad_image", str(error), cause=error.code) from error
        suggestion = self._assistant.suggestion(image)
        before = self._project.before(image)
        return {
            **_image(self._find(image_id)),
            "width": width,
            "height": height,
            "persons": [_person(row) for row in self._project.store.persons(image.id)],
            "suggestions": suggestion and [
                {**_label(label), "score": round(score, 3)}
                for label, score in zip(suggestion.labels, suggestion.scores, strict=True)
            ],
            "before": None if before is None else before.id,
        }  # fmt: skip

    def file(self, image_id: int) -> Response:
        """The image in a form that browsers display."""
        data = self._read(lambda image: self._project.files.content(image.name), image_id)
        kind = _SHOWN.get(kind_of(data[:512]).name)
        if kind is None:
            pixels = self._read(lambda image: self._project.files.read(image.name), image_id)
            data, kind = encode(pixels, ".jpg", {cv2.IMWRITE_JPEG_QUALITY: 95}), "image/jpeg"
        return Response(data, media_type=kind, headers={"cache-control": "private, max-age=600"})

    def thumbnail(self, image_id: int) -> Response:
        """The image as a small JPEG."""
        data = self._read(lambda image: self._project.files.content(image.name), image_id)
        pixels = self._read(lambda image: read_reduced(data, 8, image.name)[0], image_id)
        scale = min(1.0, _THUMBNAIL / min(pixels.shape[:2]))
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        sent = encode(small[: 4 * _THUMBNAIL, : 4 * _THUMBNAIL], ".jpg")
        headers = {"cache-control": "private, max-age=600"}
        return Response(sent, media_type="image/jpeg", headers=headers)

    def findings(self, image_id: int) -> dict[str, Any]:
        """The labels of an image that may be wrong, each with the label that would be right."""
        persons = self._project.store.persons(image_id)
        found = self._read(lambda image: self._assistant.findings(image, persons), image_id)
        versions = {person.id: person.version for person in persons}
        return {
            "versions": versions,
            "findings": [
                {
                    "key": each.key,
                    "kind": each.kind,
                    "person": each.person,
                    "keypoints": each.keypoints,
                    "repair": None if each.repair is None else _label(each.repair),
                }
                for each in found
            ],
        }

    async def accept(self, request: Request, image_id: int) -> dict[str, Any]:
        """Remember that a finding is right as it is."""
        body = await _body(request, VerdictBody)
        self._find(image_id)
        await run_in_threadpool(self._project.store.accept, image_id, body.key, body.by)
        return {}

    async def pose(self, request: Request, image_id: int) -> dict[str, Any]:
        """The label that the model suggests for the person in a box; null without a model."""
        body = await _body(request, BoxBody)
        find = self._assistant.in_box
        try:
            label = await run_in_threadpool(
                self._read, lambda image: find(image, body.box), image_id
            )
        except ValueError as error:
            raise Refusal(422, "bad_boxes", str(error)) from error
        return {"label": label and _label(label)}

    async def change(self, request: Request) -> Response:
        """Make changes: 200 says that they are on the disk, 409 that others came first."""
        body = await _body(request, ChangesBody)
        changes = [self._checked(change) for change in body.changes]
        store, status = self._project.store, 200
        try:
            revision, persons, images = await run_in_threadpool(store.apply, changes, body.by)
        except Conflict as conflict:
            status, revision = 409, store.revision
            persons, images = conflict.persons, conflict.images
        except KeyError as error:
            raise Refusal(404, "not_found", f"expected an image or person, found {error}") from None
        answer: dict[str, Any] = {
            "revision": revision,
            "persons": [_person(row) for row in persons],
            "images": [_image(row) for row in images],
        }
        if status == 409:
            reason = "expected the newest version of each row, found a change of somebody else"
            return JSONResponse({"error": "conflict", "reason": reason, **answer}, status)
        self._project.changed()
        return JSONResponse(answer)

    def news(self, after: int = 0) -> dict[str, Any]:
        """What has changed since a revision: the images with their numbers of persons."""
        store = self._project.store
        revision, counts = store.revision, store.counts()
        images = [store.image(image) for image in store.changed_images(after)]
        return {
            "revision": revision,
            "ready": self._assistant.ready,
            "count": len(self._project.present),
            "images": [_image(row, counts.get(row.id, 0)) for row in images if row is not None],
        }

    def annotations(self) -> Response:
        """All labels as COCO keypoints, as a file to save."""
        name = f"{self._project.root.resolve().name}.json".encode("ascii", "replace").decode()
        quoted = name.replace('"', "'").replace("\\", "_")
        headers = {"content-disposition": f'attachment; filename="{quoted}"'}
        data = json.dumps(self._project.coco(), ensure_ascii=False) + "\n"
        return Response(data, media_type="application/json", headers=headers)

    async def take_agreement(self, request: Request) -> dict[str, Any]:
        """Use the constants of the annotators' agreement from now on."""
        await _body(request, _Body)
        try:
            return await run_in_threadpool(self._project.take_agreement)
        except UserError as error:
            raise Refusal(409, "cannot_agree", str(error), cause=error.code) from error

    # ---- requests ---------------------------------------------------------------------------

    def _checked(self, change: ChangeBody) -> Change:
        """Raises a Refusal for a label that is none of this skeleton."""
        label = None
        if change.person is not None and change.label is not None:
            expected, found = len(self._project.skeleton), len(change.label.keypoints)
            if found != expected:
                reason = f"keypoints: expected {expected}, found {found}"
                raise Refusal(422, "bad_request", reason)
            try:
                label = Label.checked(change.label.box, change.label.keypoints)
            except (ValueError, TypeError) as error:
                raise Refusal(422, "bad_request", f"label: {error}") from None
        return Change(change.id, change.image, change.version, change.person, label, change.done)

    def _find(self, image_id: int) -> ImageRow:
        image = self._project.store.image(image_id) if image_id < 2**53 else None
        if image is None or image.name not in self._project.present:
            raise Refusal(404, "not_found", "expected an image of the project, found none")
        return image

    def _read(self, work: Callable[[ImageRow], Read], image_id: int) -> Read:
        """What `work` makes of an image; its errors as refusals."""
        try:
            return work(self._find(image_id))
        except UserError as error:
            raise Refusal(422, "bad_image", str(error), cause=error.code) from error


class _Models:
    """The routes of learning: a training in a process of its own, and the models it made."""

    def __init__(self, project: Project, assistant: Assistant, learner: Learner) -> None:
        self._project = project
        self._assistant = assistant
        self._learner = learner

    def add_to(self, router: APIRouter) -> None:
        router.get("/models")(self.models)
        router.post("/models/learn")(self.learn)
        router.post("/models/stop")(self.stop)
        router.post("/models/resume")(self.resume)
        router.post("/models/use")(self.use)

    def models(self) -> dict[str, Any]:
        """The models of the project, the newest first, and the weights in use."""
        models = [asdict(model) for model in self._learner.models()]
        return {"models": models, "used": self._project.store.setting("model")}

    async def learn(self, request: Request) -> dict[str, Any]:
        """Train a model on all images that are done."""
        await _body(request, _Body)
        return await self._do(self._learner.start)

    async def stop(self, request: Request) -> dict[str, Any]:
        """Stop the training."""
        await _body(request, _Body)
        await run_in_threadpool(self._learner.stop)
        return {}

    async def resume(self, request: Request) -> dict[str, Any]:
        """Continue a training that was stopped."""
        body = await _body(request, ModelBody)
        return await self._do(lambda: self._learner.resume(body.name))

    async def use(self, request: Request) -> dict[str, Any]:
        """Suggest and rank by a model from now on."""
        body = await _body(request, ModelBody)

        def use() -> Model:
            model, estimator = self._learner.open(body.name)
            self._assistant.use(estimator, model.label)
            self._project.store.keep("model", body.name)
            return model

        return await self._do(use)

    @staticmethod
    async def _do(work: Callable[[], Model]) -> dict[str, Any]:
        try:
            return asdict(await run_in_threadpool(work))
        except UserError as error:
            raise Refusal(409, "cannot_learn", str(error), cause=error.code) from error


# Bodies in memory, of all requests.
_UPLOADS = Uploads(_LIMITS)


async def _body(request: Request, kind: type[Kind]) -> Kind:
    # A page of another origin may send this type only where it is allowed to.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "wrong_type", "content type: expected application/json")
    with _UPLOADS.body() as body:
        data = await body.read(request)
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))[:100] or "body"
            raise Refusal(422, "bad_request", f"{where}: {first['msg']}") from None


def _image(row: ImageRow, persons: int | None = None) -> dict[str, Any]:
    image = {
        "id": row.id,
        "name": row.name,
        "video": row.video,
        "done": row.done,
        "version": row.version,
    }
    return image if persons is None else {**image, "count": persons}


def _label(label: Label) -> dict[str, Any]:
    return {"box": label.box, "keypoints": label.keypoints}


def _person(row: PersonRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "image": row.image,
        "version": row.version,
        "label": None if row.label is None else _label(row.label),
        "by": row.by,
        "at": row.at,
    }
