"""HTTP: health, state, refreshes on demand, and the doors to the two streams.

In: requests. Out: JSON, `application/problem+json` for errors (codes in docs/http.md), and the dashboard's files.
`openapi.py` describes all of it, `origins.py` says who may connect from where.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import WSCloseCode, web

from afresh_notifier import sse, websocket
from afresh_notifier.board import Board, ViewState
from afresh_notifier.clock import rfc3339
from afresh_notifier.errors import BadRequest, RefreshError
from afresh_notifier.hub import Hub
from afresh_notifier.live import Live
from afresh_notifier.metrics import Metrics
from afresh_notifier.named_queries.http import Endpoints
from afresh_notifier.observations import ClientJoined, ClientLeft, Observe
from afresh_notifier.openapi import document, query_parameters
from afresh_notifier.origins import Origins
from afresh_notifier.problems import middleware as problems
from afresh_notifier.problems import problem
from afresh_notifier.refresher import Refresher
from afresh_notifier.resources import web_folder
from afresh_notifier.settings import ServerSettings
from afresh_notifier.tail import Tail

#: What the dashboard may load: itself.
_POLICY = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"


class Api:
    """The handlers, over the stages that they show or ask."""

    def __init__(
        self,
        settings: ServerSettings,
        hub: Hub,
        tail: Tail,
        live: Live,
        refresher: Refresher,
        board: Board,
        metrics: Metrics,
        observe: Observe,
        queries: Endpoints | None = None,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._tail = tail
        self._live = live
        self._refresher = refresher
        self._board = board
        self._metrics = metrics
        self._observe = observe
        self._queries = queries
        self._origins = Origins(settings, observe)
        self._sockets: set[web.WebSocketResponse] = set()
        #: Streams that are open or being opened.
        self._streams = 0

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(middlewares=[self._origins.middleware, problems, _parameters])
        application.on_response_prepare.append(self._origins.add_headers)
        application.on_response_prepare.append(self._before_headers)
        application.add_routes(
            [
                web.get("/", self.dashboard),
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
                web.get("/views", self.views),
                web.post("/views/{name}/refresh", self.refresh_view),
                web.post("/api/refresh-views", self.refresh_views),
                web.get("/api/queries", self.queries),
                web.get("/openapi.json", self.openapi),
                web.get("/ws", self.websocket, allow_head=False),
                web.get("/events", self.events, allow_head=False),
                web.static("/static", web_folder()),
            ]
        )
        if self._queries is not None:
            application.add_routes(self._queries.routes())
        return application

    async def dashboard(self, request: web.Request) -> web.StreamResponse:
        """The first page."""
        del request
        return web.FileResponse(
            web_folder() / "index.html", headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        )

    async def healthz(self, request: web.Request) -> web.StreamResponse:
        """Alive."""
        del request
        return _json({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        """Listening, and nothing broken; else 503 with the reasons."""
        del request
        reasons = self._reasons()
        if reasons:
            return problem(503, "not_ready", "; ".join(reasons), reasons=reasons, role=self._board.role)
        return _json({"status": "ready", "role": self._board.role, "views": len(self._refresher.plan.timings)})

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus."""
        del request
        return web.Response(
            body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def views(self, request: web.Request) -> web.StreamResponse:
        """The state of every view."""
        del request
        position = self._hub.position
        return _json(
            {
                "epoch": position.epoch,
                "offset": position.offset,
                "role": self._board.role,
                "leader": self._board.leader,
                "listening": self._board.listening,
                "reasons": self._reasons(),
                "clients": self._hub.clients,
                "views": [self._view(name) for name in self._refresher.plan.timings],
                "ignored": [
                    {"name": one.name, "problem": one.problem, "hint": one.hint} for one in self._board.ignored
                ],
                "queries": [] if self._queries is None else self._queries.unusable(),
            }
        )

    async def refresh_view(self, request: web.Request) -> web.StreamResponse:
        """Refresh one view now; answers when it is done."""
        name = request.match_info["name"]
        known = self._refresher.plan.timings
        found = name if name in known else f"public.{name}"
        if found not in known:
            return problem(
                404,
                "no_such_view",
                f"there is no view {name} here; GET /views lists those there are",
                views=list(known),
            )
        outcome = await self._refresh(found)
        if "problem" in outcome:
            return problem(503, "refresh_failed", outcome["problem"], hint=outcome["hint"], view=found)
        if found not in self._refresher.plan.timings:  # it has left the plan meanwhile
            text = f"{found} was refreshed, and is kept fresh no more"
            return problem(404, "no_such_view", text, views=list(self._refresher.plan.timings))
        return _json(self._view(found))

    async def refresh_views(self, request: web.Request) -> web.StreamResponse:
        """Refresh all views now, parents first; answers when all are done."""
        del request
        names = list(self._refresher.plan.timings)
        if self._board.leading:  # which sees to the order itself
            outcomes = await asyncio.gather(*(self._refresh(name) for name in names))
        else:
            outcomes = [await self._refresh(name) for name in names]
        failed = [outcome for outcome in outcomes if "problem" in outcome]
        if failed:
            text = f"{len(failed)} of {len(outcomes)} views were not refreshed"
            return problem(503, "refresh_failed", text, views=outcomes)
        return _json({"refreshed": len(outcomes), "views": outcomes})

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """What is written here, for machines."""
        del request
        whole = document()
        if self._queries is not None:
            for path, item in self._queries.paths().items():
                whole["paths"].setdefault(path, {}).update(item)
        return _json(whole)

    async def queries(self, request: web.Request) -> web.StreamResponse:
        """The named queries, and whether each can be run."""
        del request
        return _json({"queries": [] if self._queries is None else self._queries.listed()})

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        """`afresh.v1`."""
        return await self._stream(
            "websocket",
            lambda: websocket.serve(request, self._hub, self._tail, self._live, self._settings, self._sockets),
        )

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events."""
        return await self._stream("sse", lambda: sse.serve(request, self._hub, self._tail, self._settings))

    async def goodbye(self, patience: float) -> None:
        """Tell every client that the service stops; waits ``patience`` seconds for their answers.

        Who has not answered by then is cut off with the server, as all are where this is cancelled.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
                for socket in self._sockets:
                    closing = socket.close(code=WSCloseCode.GOING_AWAY, message=b"stopping")
                    group.create_task(closing, name="goodbye")

    async def _stream(self, kind: str, serve: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if self._streams >= self._settings.max_clients:
            text = f"{self._settings.max_clients} clients are connected, which is all that server.max_clients allows"
            return problem(503, "too_many_clients", text)
        self._streams += 1
        self._observe(ClientJoined(kind=kind))
        try:
            return await serve()
        finally:
            self._streams -= 1
            self._observe(ClientLeft(kind=kind))

    async def _refresh(self, name: str) -> dict[str, Any]:
        try:
            await self._refresher.demand(name)
        except RefreshError as error:
            return {"view": name, "problem": error.problem, "hint": error.hint}
        except KeyError:
            return {"view": name, "problem": f"{name} was dropped", "hint": ""}
        return {"view": name}

    def _reasons(self) -> list[str]:
        board = self._board
        reasons = [] if board.listening else [f"not listening: {board.why_not_listening}"]
        reasons += [reason for reason in (board.behind, board.why_not_planned) if reason]
        reasons += [f"{view} is broken: {state.problem}" for view, state in board.views.items() if state.broken]
        reasons += [one.problem for one in board.ignored]
        return reasons

    def _view(self, name: str) -> dict[str, Any]:
        plan = self._refresher.plan
        view = plan.patterns.catalogue.views[name]
        state = self._board.views.get(name, ViewState())
        pending, stale_for = self._refresher.pending(name), self._refresher.stale_for(name)
        return {
            "name": name,
            "status": _status(state, pending) if self._board.leading else _followed(state),
            "reason": state.problem,
            "hint": state.hint,
            "patterns": [template.text for template in plan.patterns.views.get(name, ())],
            "tables": sorted(view.tables),
            "parents": sorted(view.parents),
            "blind_spots": view.blind_spots,
            "last_refresh": None if state.last_refresh is None else rfc3339(state.last_refresh),
            "next_change": None if state.next_change is None else rfc3339(state.next_change),
            "duration_ms": None if state.seconds is None else round(state.seconds * 1000, 3),
            "pending": pending,
            "stale_ms": round(stale_for * 1000, 3),
            "failures": state.failures,
            "refreshes": state.refreshes,
            "every_s": plan.timings[name].every,
        }

    async def _before_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal: headers that must be on a response before it begins, as a stream's or a file's."""
        if request.path.startswith("/static/"):
            response.headers["Cache-Control"] = (
                "no-cache"  # a page and its scripts are of one version, or asked for anew
            )


@web.middleware
async def _parameters(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses parameters that mean nothing here: who misspells one would else get an answer to another question."""
    resource = request.match_info.route.resource
    known = None if resource is None else query_parameters(resource.canonical)
    unknown = [] if known is None else [name for name in request.query if name not in known]
    if known is None or not unknown:
        return await handler(request)
    takes = ", ".join(sorted(known)) or "none"
    if request.path == "/ws":
        takes = 'none; patterns are named in a message, {"type":"subscribe","id":"1","patterns":["clients"]}'
    raise BadRequest(f"there is no parameter {unknown[0]}; {request.path} takes {takes}")


def _json(value: object) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _followed(state: ViewState) -> str:
    """What a follower can say of a view, of which it knows what the log says."""
    return "unknown" if state.last_refresh is None else "fresh"


def _status(state: ViewState, pending: bool) -> str:
    if state.broken:
        return "broken"
    if state.failures:
        return "failing"
    if state.refreshing:
        return "refreshing"
    return "pending" if pending or state.last_refresh is None else "fresh"
