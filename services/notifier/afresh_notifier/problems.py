"""Errors over HTTP: `application/problem+json` (RFC 9457), each with a stable ``code`` that clients may rely on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from afresh_notifier.errors import BadRequest


def problem(status: int, code: str, detail: str, **more: Any) -> web.Response:
    """A problem's response: ``code`` is stable, ``detail`` is for people and says what to do next."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    # They may repeat bytes of the request that are no text.
    body = {key: _text(value) if isinstance(value, str) else value for key, value in body.items()}
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/problem+json")


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


@web.middleware
async def middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turns errors into problems."""
    try:
        return await handler(request)
    except BadRequest as error:
        return problem(400, "bad_request", error.problem)
    except web.HTTPBadRequest as error:  # aiohttp's own, as for a request to /ws that asks for no WebSocket
        return problem(400, "bad_request", " ".join((error.text or error.reason).split()))
    except (web.HTTPNotFound, web.HTTPForbidden):  # forbidden are folders among the static files
        return problem(
            404, "no_such_page", f"there is nothing at {request.path}; GET /openapi.json lists what there is"
        )
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = problem(405, "method_not_allowed", f"{request.path} takes {allowed}")
        response.headers["Allow"] = allowed
        return response
