"""The whole surface: every route and the middleware on one screen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute

from hidream_edit.api import (
    admin,
    errors,
    files,
    health,
    history,
    metrics,
    openapi,
    pages,
    queue,
    realtime,
    run,
    server_document,
    storage,
    streaming,
    tokens,
    wire,
)
from hidream_edit.api.doors import Doors
from hidream_edit.api.request_ids import RequestIds
from hidream_edit.api.services import Services
from hidream_edit.api.traces import Traces
from hidream_edit.api.uploads import Uploads
from hidream_edit.domain.errors import HidreamEditError

APP = "/{owner}/{app}"
REQUEST = "/requests/{request_id}"

ROUTES = [
    Route("/health", health.live),
    Route("/health/live", health.live),
    Route("/health/ready", health.ready),
    Route("/metrics", metrics.metrics),
    Route("/.well-known/jwks.json", health.key_set),
    Route("/admin/overview", admin.overview),
    Route("/admin/deliveries/{request_id}/redeliver", admin.redeliver, methods=["POST"]),
    Route("/v1/about", history.about),
    Route("/v1/requests", history.requests),
    *pages.ROUTES,
    Route("/openapi.json", server_document.document),
    Route("/api/openapi/queue/openapi.json", openapi.document),
    Route("/v1/models", openapi.models),
    Route("/storage/upload/initiate", storage.initiate, methods=["POST"]),
    Route("/storage/upload/initiate-multipart", storage.initiate, methods=["POST"]),
    Route("/storage/upload/{blob_id}", storage.put, methods=["PUT"]),
    Route("/storage/upload/{blob_id}/complete", storage.complete, methods=["POST"]),
    Route("/storage/upload/{blob_id}/{number:int}", storage.put_part, methods=["PUT"]),
    Route("/storage/auth/token", storage.token, methods=["POST"]),
    Route("/files/upload", storage.upload_file, methods=["POST"]),
    Route("/files/upload/multipart", storage.begin_multipart, methods=["POST"]),
    Route("/files/b/{blob_id}/{name}/multipart/{upload_id}/complete", storage.complete_direct, methods=["POST"]),
    Route("/files/b/{blob_id}/{name}/multipart/{upload_id}/{number:int}", storage.put_direct_part, methods=["PUT"]),
    Route("/files/b/{blob_id}/{name}/sign", files.sign, methods=["POST"]),
    Route("/files/b/{blob_id}/{name}", files.download),
    Route("/tokens", tokens.create, methods=["POST"]),
    Route("/tokens/", tokens.create, methods=["POST"]),
    Route("/tokens/realtime", tokens.create_realtime, methods=["POST"]),
    *(
        route
        for prefix in ("/queue", "")  # requests exist on the queue only, so their paths are unmistakable
        for route in (
            Route(f"{prefix}{APP}{REQUEST}/status/stream", queue.status_stream),
            Route(f"{prefix}{APP}{REQUEST}/status", queue.status),
            Route(f"{prefix}{APP}{REQUEST}/status/", queue.status),
            Route(f"{prefix}{APP}{REQUEST}/cancel", queue.cancel, methods=["PUT"]),
            Route(f"{prefix}{APP}{REQUEST}/response", queue.result),
            Route(f"{prefix}{APP}{REQUEST}", queue.result),
            Route(f"{prefix}{APP}{REQUEST}/", queue.result),
        )
    ),
    Route(f"/queue{APP}", queue.submit, methods=["POST"]),
    Route(f"/queue{APP}/", queue.submit, methods=["POST"]),
    Route(f"{APP}/stream", streaming.stream, methods=["POST"]),
    WebSocketRoute(f"{APP}/realtime", realtime.realtime),
    Route(APP, run.run, methods=["POST"]),
    Route(f"{APP}/", run.run, methods=["POST"]),
]
PATHS = {
    route.endpoint: route.path for route in reversed(ROUTES) if isinstance(route, Route)
}  # as they are written first


def create_app(
    services: Services, *, secret: bytes, key_set: Mapping[str, Any], bases: tuple[str, ...] = ("localhost",)
) -> Starlette:
    """The API over its services.

    ``secret`` signs upload places, ``key_set`` verifies webhooks; both are the same in every process.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        services.watcher.start()
        services.submitter.start()
        yield
        services.submitter.stop()
        services.watcher.stop()

    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(RequestIds),
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=wire.EXPOSED.split(", "),
            ),
            Middleware(Doors, bases=bases),
            *([Middleware(Traces, tracer=services.tracer, paths=PATHS)] if services.tracer.is_on else []),
        ],
        exception_handlers={
            HidreamEditError: errors.answer,
            HTTPException: errors.http_answer,
            Exception: errors.unexpected,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.services, app.state.uploads, app.state.key_set = services, Uploads(secret), dict(key_set)
    return app
