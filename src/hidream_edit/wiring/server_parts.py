"""What API process and runner process share: the store and the blobs that the settings name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hidream_edit.blobs.folder import FolderObjects
from hidream_edit.blobs.store import Blobs
from hidream_edit.domain.blobs import Objects
from hidream_edit.domain.errors import StoreUnusable
from hidream_edit.queue.sql_blobs import SqlBlobRows
from hidream_edit.queue.sql_keys import SqlKeys
from hidream_edit.queue.sql_store import SqlStore
from hidream_edit.settings import S3Settings, ServerSettings
from hidream_edit.webhooks.signing import new_private_key

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ServerParts:
    """Open store, keys and blobs; `close` releases them."""

    store: SqlStore
    keys: SqlKeys
    blobs: Blobs

    def close(self) -> None:
        """Release files."""
        self.store.close()


def open_parts(settings: ServerSettings) -> ServerParts:
    """Open what the settings name, making it where it is not there.

    Raises:
        StoreUnusable: it cannot be opened by this version.
    """
    folder = settings.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        objects = open_objects(settings)
        store = _open_store(settings)
        return ServerParts(store, SqlKeys(store), Blobs(objects, SqlBlobRows(store)))
    except OSError as problem:
        raise StoreUnusable(f"{folder} cannot be used: {problem.strerror or problem}") from problem


def _open_store(settings: ServerSettings) -> SqlStore:
    if settings.database is None:
        from hidream_edit.queue.sqlite.store import SqliteStore

        return SqliteStore(settings.folder / "jobs.sqlite3", synchronous=settings.synchronous)
    try:
        from hidream_edit.queue.postgres.store import PostgresStore
    except ImportError as missing:
        raise StoreUnusable("PostgreSQL needs its driver: pip install 'hidream-edit[postgres]'") from missing
    return PostgresStore(settings.database.get_secret_value())


def open_objects(settings: ServerSettings) -> Objects:
    """Where the bytes of files lie. Raises StoreUnusable, OSError."""
    if settings.blobs is None:
        return FolderObjects(settings.folder / "blobs")
    address = urlsplit(settings.blobs)
    if address.scheme != "s3" or not address.hostname:
        raise StoreUnusable(f"files lie in a bucket, s3://bucket/prefix, or in the data folder; not {settings.blobs}")
    try:
        from hidream_edit.blobs.s3 import Bucket, S3Objects
    except ImportError as missing:
        raise StoreUnusable("S3 needs its client: pip install 'hidream-edit[s3]'") from missing
    s3 = S3Settings()
    secret = None if s3.secret_access_key is None else s3.secret_access_key.get_secret_value()
    prefix = address.path.strip("/")
    return S3Objects(Bucket(address.hostname, prefix, s3.endpoint, s3.region, s3.access_key_id, secret))


def read_secret(settings: ServerSettings) -> bytes:
    """The secret that signs tokens and upload places."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    return _kept(settings.folder / "secret", lambda: secrets.token_bytes(SECRET_BYTES))


def read_webhook_key(settings: ServerSettings) -> bytes:
    """The private key that signs webhooks."""
    return _kept(settings.folder / "webhook-key", new_private_key)


def _kept(file: Path, make: Callable[[], bytes]) -> bytes:
    """Bytes that are made at the first start and readable by their owner only."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        made = make()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(made)
        return made
