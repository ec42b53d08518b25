"""The web page: files of this package, under a policy that lets them load nothing else."""

from __future__ import annotations

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# No script but ours, nothing from other hosts, in no frame. Pictures that are edited show as blobs and data.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".webmanifest": "application/manifest+json",
}
FOLDER = resources.files("hidream_edit.playground")
FILES = {
    file.name: (file.read_bytes(), TYPES["." + file.name.rpartition(".")[2]])
    for file in FOLDER.iterdir()
    if "." + file.name.rpartition(".")[2] in TYPES
}
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


async def file(request: Request) -> Response:
    """A file of the page."""
    return _answer(str(request.path_params["name"]))


async def playground(_: Request) -> Response:
    """The page on which pictures are edited."""
    return _answer("index.html")


async def admin(_: Request) -> Response:
    """The owner's page; what it shows asks for a key."""
    return _answer("admin.html")


def _answer(name: str) -> Response:
    if name not in FILES:
        return Response(status_code=404)
    data, content_type = FILES[name]
    return Response(data, headers=HEADERS | {"content-type": content_type})


ROUTES = [Route("/", playground), Route("/admin", admin), Route("/playground/{name}", file)]
