"""The OpenAPI 3.1 document of the REST API, made from the very table that serves it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final

import msgspec

from .answers import Problem
from .operation import Nothing, Operation

_REFERENCE: Final = "#/components/schemas/{name}"
_NAMED: Final = re.compile(r"{(\w+)}")
_ERRORS: Final = {
    "400": "It contradicts itself.",
    "401": "Nobody is logged in, or the token is none or has ended.",
    "403": "The caller may not do this here.",
    "404": "There is no such thing.",
    "413": "The body is too long.",
    "415": "The body is of a type that is not taken.",
    "429": "Too many wrong tries; see Retry-After.",
    "503": "Not now; see Retry-After.",
    "507": "The disk is full.",
}


def document(operations: Iterable[tuple[str, Operation]]) -> dict[str, Any]:
    """Return the document; an operation comes once for each of its paths."""
    rows = list(operations)
    types: list[Any] = [Problem]
    for _, operation in rows:
        types += [each for each in (operation.answer, operation.body, operation.query) if each is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    known = dict(zip(map(id, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for path, operation in rows:
        paths.setdefault(path, {})[operation.method.lower()] = _described(path, operation, known, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PeerPACS",
            "version": version("peerpacs"),
            "summary": "One node of a grid of PACS, for people who script.",
            "description": "Errors are RFC 9457 problem documents; `next` says what can be done.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "peerpacs tokens make USER"},
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-peerpacs"},
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


def _described(
    path: str, operation: Operation, known: dict[int, Any], components: dict[str, Any]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{path}").strip("_"),
        "parameters": [*_of_path(path), *_of_query(operation, components)],
        "responses": {str(operation.status): _good(operation, known), **_bad(operation)},
        "x-right": str(operation.right) if operation.right else None,
    }
    if operation.body is not None:
        told["requestBody"] = _body(operation.takes, known[id(operation.body)])
    elif operation.takes != "application/json":
        told["requestBody"] = _body(operation.takes, {"type": "string", "format": "binary"})
    return told


def _of_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAMED.findall(path)
    ]


def _of_query(operation: Operation, components: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is Nothing:
        return []
    schema = components[operation.query.__name__]
    return [
        {"name": name, "in": "query", "schema": each, "description": each.get("description", "")}
        for name, each in schema["properties"].items()
    ]


def _body(media_type: str, schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": schema}}}


def _good(operation: Operation, known: dict[int, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        told["content"] = {"application/json": {"schema": known[id(operation.answer)]}}
    elif operation.status != 204:
        told["content"] = {operation.media_type: {}}
    return told


def _bad(operation: Operation) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}}
    return {status: {"description": why, "content": problem} for status, why in _ERRORS.items()}
