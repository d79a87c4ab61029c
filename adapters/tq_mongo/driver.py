"""PyMongo, or the word what to install: every other file takes it from here. Motor brings it along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from tq.errors import MissingExtraError

try:
    import bson
    from bson import errors as bson_errors
    from pymongo import (
        AsyncMongoClient,
        DeleteMany,
        DeleteOne,
        IndexModel,
        InsertOne,
        ReturnDocument,
        UpdateMany,
        UpdateOne,
    )
    from pymongo import errors as exceptions
except ImportError as error:
    raise MissingExtraError("mongo") from error

decode = cast("Callable[[bytes], dict[str, Any]]", bson.decode)  # pyright: ignore[reportUnknownMemberType] -- as said
encode = cast("Callable[[dict[str, Any]], bytes]", bson.encode)

__all__ = [
    "AsyncMongoClient",
    "DeleteMany",
    "DeleteOne",
    "IndexModel",
    "InsertOne",
    "ReturnDocument",
    "UpdateMany",
    "UpdateOne",
    "bson_errors",
    "decode",
    "encode",
    "exceptions",
]
