"""Named queries as machines read of them: their part of `/openapi.json`, and the list at `/api/queries`.

Before a query could be prepared this is what the settings say; afterwards it is what PostgreSQL says too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from afresh_notifier.named_queries import kinds, parameters
from afresh_notifier.named_queries.library import Library
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.named_queries.preparation import Prepared
from afresh_notifier.settings_queries import ParameterSettings, places_in

_PROBLEM = {"$ref": "#/components/responses/Problem"}

#: Headers that every answer as JSON has.
_HEADERS = {
    "ETag": "Of the content; send it as If-None-Match to be told that it is the same.",
    "X-Cache": "`hit`, `miss` or `stale`.",
    "Afresh-Position": "`<epoch>:<offset>`: everything that was logged up to there is in the answer.",
}


#: The one that the answer of a chat has.
_CHAT_HEADERS = {"Afresh-Answered-By": "`model` or `query`: whether a chat model gave the answer."}

#: What may be asked of every answer that is kept.
_POSITION = {
    "name": "Afresh-Position",
    "in": "header",
    "required": False,
    "description": "`<epoch>:<offset>`: the answer must cover what was logged up to there.",
    "schema": {"type": "string"},
}


def listed(library: Library) -> list[dict[str, Any]]:
    """All queries, for `/api/queries`."""
    return [_listed(library, query) for query in library.queries.values()]


def paths(library: Library) -> dict[str, dict[str, Any]]:
    """All queries, as OpenAPI has paths."""
    made: dict[str, dict[str, Any]] = {}
    for query in library.queries.values():
        made.setdefault(query.path, {})[query.method.lower()] = _operation(query, library.prepared(query.name))
    return made


def _listed(library: Library, query: NamedQuery) -> dict[str, Any]:
    prepared, problem = library.prepared(query.name), library.problem(query.name)
    return {
        "name": query.name,
        "path": query.path,
        "method": query.method,
        "description": query.description,
        "pack": query.source or None,
        "parameters": [
            {
                "name": settings.name,
                "type": kind_name,
                "required": settings.required,
                "nullable": settings.nullable,
                "description": settings.description,
                "schema": schema,
            }
            for settings, kind_name, schema in _parameters(query, prepared)
        ],
        "columns": None if prepared is None else list(prepared.columns),
        "cache_key": query.cache_key.text,
        "ttl_s": query.ttl,
        "stale_ttl_s": query.stale_ttl,
        "timeout_s": query.timeout,
        "max_rows": query.max_rows,
        "writes": query.writes,
        "one": query.one,
        "role": query.role,
        "usable": prepared is not None,
        "problem": None if problem is None else problem.problem,
        "hint": None if problem is None else problem.hint,
    }


def _parameters(
    query: NamedQuery, prepared: Prepared | None
) -> Iterable[tuple[ParameterSettings, str | None, dict[str, Any]]]:
    if prepared is not None:
        for one in prepared.parameters.listed:
            yield one.settings, one.type, parameters.schema(one.settings, one.kind)
    else:
        for settings in query.parameters:
            kind = None if settings.type is None else kinds.by_name(settings.type)
            yield settings, settings.type, parameters.schema(settings, kind)


def _operation(query: NamedQuery, prepared: Prepared | None) -> dict[str, Any]:
    in_path = places_in(query.path)
    listed_parameters = list(_parameters(query, prepared))
    operation: dict[str, Any] = {
        "operationId": query.name,
        "summary": query.description or f"The named query {query.name}",
        "tags": ["queries"],
        "parameters": [
            {
                "name": settings.name,
                "in": "path" if settings.name in in_path else "query",
                "required": settings.required or settings.name in in_path,
                "description": settings.description,
                "schema": schema,
            }
            for settings, _, schema in listed_parameters
            if settings.name in in_path or query.method == "GET"
        ]
        + ([] if query.writes else [_POSITION]),
        "responses": {"200": _answer(query, prepared), **dict.fromkeys(("400", "422", "503", "504"), _PROBLEM)},
    }
    if query.one:
        operation["responses"]["404"] = _PROBLEM
    if query.in_character:
        operation["responses"]["403"] = _PROBLEM
    if query.writes:
        operation["responses"]["409"] = _PROBLEM
    if query.method == "GET":
        operation["responses"]["304"] = {"description": "The same as what If-None-Match names"}
    else:
        operation["responses"] |= dict.fromkeys(("413", "415"), _PROBLEM)
        body = [one for one in listed_parameters if one[0].name not in in_path]
        needed = [settings.name for settings, _, _ in body if settings.required]
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": needed,
            "properties": {
                settings.name: {**inner, "description": settings.description} for settings, _, inner in body
            },
        }
        operation["requestBody"] = {"required": bool(needed), "content": {"application/json": {"schema": schema}}}
    return operation


def _answer(query: NamedQuery, prepared: Prepared | None) -> dict[str, Any]:
    headers = _CHAT_HEADERS if query.chat is not None else {} if query.writes else _HEADERS
    content: dict[str, Any] = {"application/json": {"schema": _rows(query, prepared)}}
    if not query.writes:
        content["text/csv"] = {"schema": {"type": "string"}}
    return {
        "description": "The row" if query.one else "The rows",
        "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()},
        "content": content,
    }


def _rows(query: NamedQuery, prepared: Prepared | None) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "object"}
    if prepared is not None:
        told = [name for name in prepared.columns if query.chat is None or name != query.chat.messages]
        row |= {"required": told, "properties": {name: {} for name in told}}
    if query.one:
        return row
    return {
        "type": "object",
        "required": ["rows", "truncated"],
        "properties": {
            "rows": {"type": "array", "items": row},
            "truncated": {"type": "boolean", "description": "Whether there are more rows than may be told."},
        },
    }
