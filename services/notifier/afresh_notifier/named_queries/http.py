"""Named queries over HTTP: how they are asked, and how they are answered.

In: a request whose path is a query's. Out: its rows as JSON, with an `ETag`; or as CSV, a few hundred rows at a time; or
a problem (docs/queries.md lists the codes). Whatever a client sends that cannot be taken is a 4xx which says what was
expected.

A CSV that ends before its end is cut off: the response is chunked, and lacks its last chunk. A client that does not read
holds its connection to PostgreSQL for `STALL_LIMIT` seconds at most.

`Cache-Control: no-cache` and not `private`: whoever keeps an answer may not use it before he has asked again, with the new
request's credentials, and answers do not depend on who asks.

Concurrency: a handler is cancelled when its client goes away; then `library` hands over what others wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from aiohttp import ETag, HttpVersion11, web

from afresh_cache.errors import BadMessage
from afresh_cache.messages import Position
from afresh_notifier.errors import BadParameter, BadRequest, QueryError
from afresh_notifier.hub import Hub
from afresh_notifier.named_queries import description
from afresh_notifier.named_queries.csv_lines import lines
from afresh_notifier.named_queries.execution import STALL_LIMIT
from afresh_notifier.named_queries.library import Library
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.named_queries.parameters import Values
from afresh_notifier.problems import problem
from afresh_notifier.settings_queries import CSV_ENDING
from afresh_notifier.tail import Tail

#: The header in which a client says what the answer must cover, and we what it covers.
POSITION = "Afresh-Position"

#: The header that says who answered in a chat: `model` or `query`.
ANSWERED_BY = "Afresh-Answered-By"

_JSON, _CSV = "application/json", "text/csv"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoints:
    """The handlers of all named queries."""

    def __init__(self, library: Library, hub: Hub, tail: Tail) -> None:
        self._library = library
        self._hub = hub
        self._tail = tail

    def routes(self) -> list[web.RouteDef]:
        """A route for each query, and one for its path with `.csv` at its end, which comes first: the last segment of a
        path may be a parameter, which would take the ending for a part of its value."""
        made = []
        for query in self._library.queries.values():
            for ending, csv in ((CSV_ENDING, True), ("", False)) if not query.writes else (("", False),):
                add = web.get if query.method == "GET" else web.post
                made.append(add(query.path + ending, self._handler(query, csv=csv)))
        return made

    def listed(self) -> list[dict[str, Any]]:
        """All queries, for `/api/queries`."""
        return description.listed(self._library)

    def paths(self) -> dict[str, dict[str, Any]]:
        """All queries, as OpenAPI has paths."""
        return description.paths(self._library)

    def unusable(self) -> list[dict[str, str]]:
        """Those that cannot be run, and why."""
        problems = {name: self._library.problem(name) for name in self._library.queries}
        return [
            {"name": name, "problem": error.problem, "hint": error.hint} for name, error in problems.items() if error
        ]

    def _handler(self, query: NamedQuery, *, csv: bool) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                since = _since(request)
                prepared = await self._library.prepare(query)
                if query.method == "GET":
                    given = [*request.match_info.items(), *request.query.items()]
                    values = prepared.parameters.from_strings(given)
                else:
                    body = await _body(request)
                    if isinstance(body, web.Response):
                        return body
                    values = prepared.parameters.from_json(body, dict(request.match_info))
                if query.writes:
                    return await self._write(query, values)
                trusting = since is None or await self._tail.covers(since)
                if csv or prefers_csv(request.headers.getall("Accept", [])):
                    return await self._csv(request, query, values, prepared.columns)
                return await self._json(request, query, values, trusting=trusting)
            except QueryError as error:
                more = {"parameter": error.parameter} if isinstance(error, BadParameter) else {}
                if error.hint:
                    more["hint"] = error.hint
                return problem(error.status, error.code, error.problem, **more)

        return handle

    async def _json(
        self, request: web.Request, query: NamedQuery, values: Values, *, trusting: bool
    ) -> web.StreamResponse:
        answer = await self._library.answer(query, values, trusting=trusting)
        headers = {
            "ETag": f'"{answer.etag}"',
            "X-Cache": answer.how,
            POSITION: str(answer.position),
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }
        if request.method in ("GET", "HEAD") and _has(request.if_none_match, answer.etag):
            return web.Response(status=304, headers=headers)
        body = self._body(query, answer.body, answer.count, truncated=answer.truncated)
        return web.Response(body=body, content_type=_JSON, headers=headers)

    async def _write(self, query: NamedQuery, values: Values) -> web.Response:
        rows, modelled = await self._library.write(query, values)
        headers = {"Cache-Control": "no-store"}
        if query.chat is not None:
            headers[ANSWERED_BY] = "model" if modelled else "query"
        body = self._body(query, rows.body, rows.count, truncated=rows.truncated)
        return web.Response(body=body, content_type=_JSON, headers=headers)

    def _body(self, query: NamedQuery, rows: bytes, count: int, *, truncated: bool) -> bytes:
        """What the client gets for these rows. Raises `NothingFound`."""
        if query.one:
            if count == 0:
                raise self._library.found_nothing(query)
            return rows[1:-1]
        return b"".join((b'{"rows":', rows, b',"truncated":true}' if truncated else b',"truncated":false}'))

    async def _csv(
        self, request: web.Request, query: NamedQuery, values: Values, columns: tuple[str, ...]
    ) -> web.StreamResponse:
        headers = {
            "Content-Type": f"{_CSV}; charset=utf-8; header=present",
            "Content-Disposition": f'attachment; filename="{query.name}.csv"',
            "Cache-Control": "no-store",
            "Afresh-Max-Rows": str(query.max_rows),
            POSITION: str(self._hub.published),
            "Vary": "Accept",
        }
        response = web.StreamResponse(headers=headers)
        if request.method == "HEAD":
            return response
        batches = self._library.batches(query, values)
        async with contextlib.aclosing(batches):
            first: list[asyncpg.Record] = await anext(batches, [])  # what fails by now is a problem
            if request.version >= HttpVersion11:
                response.enable_chunked_encoding()
            await response.prepare(request)
            try:
                await _write(response, lines([columns]) + lines(first))
                async for rows in batches:
                    await _write(response, lines(rows))
                await response.write_eof()
            except (QueryError, TimeoutError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
        return response


def prefers_csv(accept: list[str]) -> bool:
    """Whether a client that sends these `Accept` headers likes CSV better than JSON (RFC 9110, section 12.5.1)."""
    return _quality(accept, _CSV) > _quality(accept, _JSON)


def _quality(accept: list[str], kind: str) -> float:
    """How much a client likes ``kind``: what names it most exactly counts."""
    best = (-1, 0.0)
    for element in ",".join(accept).split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        exactness = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}.get(name)
        if exactness is None:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                with contextlib.suppress(ValueError):
                    quality = min(1.0, max(0.0, float(value)))
        best = max(best, (exactness, quality))
    return best[1]


def _has(named: tuple[ETag, ...] | None, etag: str) -> bool:
    return named is not None and any(one.value in (etag, "*") for one in named)


def _since(request: web.Request) -> Position | None:
    text = request.headers.get(POSITION)
    if text is None:
        return None
    try:
        return Position.parse(text)
    except BadMessage as error:
        raise BadRequest(f"{POSITION}: {error}") from error


async def _body(request: web.Request) -> bytes | web.Response:
    """The body of a request, or what is wrong with it."""
    if request.query:
        raise BadRequest(f"{request.path} takes its parameters in a JSON object, not behind the question mark")
    if not request.can_read_body:
        return b""
    if request.content_type != _JSON:
        return problem(415, "not_json", f"{request.path} takes {_JSON}, not {request.content_type}")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return problem(413, "body_too_large", "a JSON object of parameters is at most a megabyte")
    except web.RequestPayloadError as error:
        raise BadRequest(f"the body of the request cannot be read: {error}") from error


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Raises TimeoutError where the client does not take it."""
    async with asyncio.timeout(STALL_LIMIT):
        await response.write(data)
