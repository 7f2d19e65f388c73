"""The OpenAPI description of the HTTP side, served at `/openapi.json`; a test holds it to the routes that there are."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

_PROBLEM = {"$ref": "#/components/responses/Problem"}


#: Where parameters that mean nothing are let pass: browsers, load balancers and scrapers add theirs.
_LENIENT = ("/", "/healthz", "/readyz", "/metrics")


def _answer(description: str, schema: dict[str, Any] | None = None, kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema or {"type": "object"}}}}


@cache
def query_parameters(path: str) -> frozenset[str] | None:
    """What may stand behind the question mark at ``path``, as it is routed; None where nobody minds: pages and probes."""
    item = document()["paths"].get(path)
    if item is None or path in _LENIENT:
        return None
    parameters = (parameter for operation in item.values() for parameter in operation.get("parameters", ()))
    return frozenset(parameter["name"] for parameter in parameters if parameter["in"] == "query")


def document() -> dict[str, Any]:
    """OpenAPI 3.1, as a JSON value."""
    view = {"$ref": "#/components/schemas/View"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Afresh",
            "version": version("afresh"),
            "description": "Keeps materialized views and caches on PostgreSQL fresh. "
            "The WebSocket protocol is described in docs/asyncapi.yaml.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": {"get": {"summary": "The dashboard", "responses": {"200": _answer("A page", kind="text/html")}}},
            "/healthz": {"get": {"summary": "Whether the process lives", "responses": {"200": _answer("It does")}}},
            "/readyz": {
                "get": {
                    "summary": "Whether it listens and no view is broken",
                    "responses": {"200": _answer("Ready"), "503": _PROBLEM},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Prometheus metrics",
                    "responses": {"200": _answer("Metrics", {"type": "string"}, "text/plain")},
                }
            },
            "/views": {
                "get": {
                    "summary": "The state of every view",
                    "responses": {
                        "200": _answer(
                            "The views",
                            {
                                "type": "object",
                                "properties": {
                                    "views": {"type": "array", "items": view},
                                    "reasons": {"type": "array", "items": {"type": "string"}},
                                    "queries": {"type": "array", "items": {"type": "object"}},
                                },
                            },
                        ),
                        "400": _PROBLEM,
                    },
                }
            },
            "/views/{name}/refresh": {
                "post": {
                    "summary": "Refresh one view now; answers when it is done",
                    "parameters": [
                        {
                            "name": "name",
                            "in": "path",
                            "required": True,
                            "description": "The view, with its schema unless that is `public`.",
                            "schema": {"type": "string"},
                        }
                    ],
                    "responses": {
                        "200": _answer("The view, refreshed", view),
                        "400": _PROBLEM,
                        "404": _PROBLEM,
                        "503": _PROBLEM,
                    },
                }
            },
            "/api/refresh-views": {
                "post": {
                    "summary": "Refresh all views now, for an outside scheduler; answers when all are done",
                    "responses": {"200": _answer("All are refreshed"), "400": _PROBLEM, "503": _PROBLEM},
                }
            },
            "/api/queries": {
                "get": {
                    "summary": "The named queries, and whether each can be run",
                    "responses": {
                        "200": _answer(
                            "The queries",
                            {
                                "type": "object",
                                "properties": {
                                    "queries": {"type": "array", "items": {"$ref": "#/components/schemas/Query"}}
                                },
                            },
                        ),
                        "400": _PROBLEM,
                    },
                }
            },
            "/openapi.json": {
                "get": {"summary": "This document", "responses": {"200": _answer("OpenAPI 3.1"), "400": _PROBLEM}}
            },
            "/ws": {
                "get": {
                    "summary": "The WebSocket, protocol afresh.v1",
                    "responses": {"101": {"description": "Switching protocols"}, "400": _PROBLEM, "503": _PROBLEM},
                }
            },
            "/events": {
                "get": {
                    "summary": "The same stream as server-sent events",
                    "parameters": [
                        {
                            "name": "patterns",
                            "in": "query",
                            "description": "Prefixes to hear of, separated by commas; left out: all.",
                            "schema": {"type": "string"},
                        },
                        {
                            "name": "Last-Event-ID",
                            "in": "header",
                            "description": "`<epoch>:<offset>`, to resume from.",
                            "schema": {"type": "string"},
                        },
                    ],
                    "responses": {
                        "200": _answer("Events", {"type": "string"}, "text/event-stream"),
                        "400": _PROBLEM,
                        "503": _PROBLEM,
                    },
                }
            },
        },
        "components": {
            "responses": {
                "Problem": _answer(
                    "What went wrong, with a stable `code`",
                    {"$ref": "#/components/schemas/Problem"},
                    "application/problem+json",
                )
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "code", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "code": {"type": "string"},
                        "detail": {"type": "string"},
                    },
                },
                "Query": {
                    "type": "object",
                    "required": ["name", "path", "method", "usable"],
                    "properties": {
                        "name": {"type": "string"},
                        "path": {"type": "string"},
                        "method": {"enum": ["GET", "POST"]},
                        "description": {"type": "string"},
                        "pack": {"type": ["string", "null"]},
                        "parameters": {"type": "array", "items": {"type": "object"}},
                        "columns": {"type": ["array", "null"], "items": {"type": "string"}},
                        "cache_key": {"type": "string"},
                        "ttl_s": {"type": ["number", "null"]},
                        "stale_ttl_s": {"type": "number"},
                        "timeout_s": {"type": "number"},
                        "max_rows": {"type": "integer"},
                        "writes": {"type": "boolean"},
                        "one": {"type": "boolean"},
                        "role": {"type": ["string", "null"]},
                        "usable": {"type": "boolean"},
                        "problem": {"type": ["string", "null"]},
                        "hint": {"type": ["string", "null"]},
                    },
                },
                "View": {
                    "type": "object",
                    "required": ["name", "status"],
                    "properties": {
                        "name": {"type": "string"},
                        "status": {"enum": ["fresh", "pending", "refreshing", "failing", "broken", "unknown"]},
                        "reason": {"type": ["string", "null"]},
                        "hint": {"type": ["string", "null"]},
                        "patterns": {"type": "array", "items": {"type": "string"}},
                        "tables": {"type": "array", "items": {"type": "string"}},
                        "parents": {"type": "array", "items": {"type": "string"}},
                        "blind_spots": {"type": "array", "items": {"type": "string"}},
                        "last_refresh": {"type": ["string", "null"], "format": "date-time"},
                        "next_change": {"type": ["string", "null"], "format": "date-time"},
                        "duration_ms": {"type": ["number", "null"]},
                        "pending": {"type": "boolean"},
                        "stale_ms": {"type": "number"},
                        "failures": {"type": "integer"},
                        "refreshes": {"type": "integer"},
                        "every_s": {"type": ["number", "null"]},
                    },
                },
            },
        },
    }
