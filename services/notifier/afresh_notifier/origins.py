"""Who may connect from where: it is the browsers that are held to this, since any program can send what it likes.

In: each request, before anything else sees it. Out: 403, or the request as it is, and the CORS headers for the answers to
pages of other origins that `server.origins` names.

Two things are asked. *Which page* (`Origin`): pages that the service itself serves, those in `server.origins`, and
whatever sends no `Origin` (programs) may connect. *By which name* (`Host`), and that only where the service listens on a
loopback address: a page whose own name was pointed at 127.0.0.1 after it was loaded (DNS rebinding) is of our own origin
to the browser, and gives itself away by the name alone. Where the service listens to the network this is not asked: by
which names a machine is known out there cannot be told, and whoever could be tricked into asking can be asked directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from aiohttp import web

from afresh_notifier.observations import Observe, Refused
from afresh_notifier.problems import problem
from afresh_notifier.settings import ServerSettings
from afresh_notifier.settings_values import read_origin

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Refused origins and hosts that are reported, each once: anybody can invent more.
MAX_REPORTED = 100


class Origins:
    """The check, and the headers that go with it."""

    def __init__(self, settings: ServerSettings, observe: Observe) -> None:
        self._observe = observe
        self._any = "*" in settings.origins
        self._named = {origin for text in settings.origins if (origin := read_origin(text)) is not None}
        #: The names by which we may be called beside those of every loopback address; None: any.
        self._hosts: frozenset[str] | None = None
        if is_loopback(settings.host) and not self._any:
            self._hosts = frozenset({settings.host.lower(), *(host for _, host, _ in self._named)})
        self._reported: set[tuple[str, str]] = set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answers 403 to whom may not connect, and the questions that browsers ask before they do."""
        host = request.headers.get("Host")  # a request of HTTP/1.0 may have none; a browser's has
        if host is not None and not self._answers_to(host):
            self._report("Host", host)
            return problem(
                403,
                "host_refused",
                f"this service listens on its own machine alone, where it is not called {host}; "
                "if that is a name of it, add the name to server.origins, as https://app.example.com",
            )
        origin = _foreign_origin(request)
        if origin is None:
            return await handler(request)
        if not self._admits(origin):
            self._report("Origin", origin)
            return problem(403, "origin_refused", f"pages of {origin} may not connect; add it to server.origins")
        if request.method == "OPTIONS":
            return web.Response(status=204)
        return await handler(request)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """A signal: pages of other origins that may connect may read the answer."""
        origin = _foreign_origin(request)
        if origin is not None and self._admits(origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST"
            response.headers["Access-Control-Allow-Headers"] = (
                "Last-Event-ID, Content-Type, If-None-Match, Afresh-Position"
            )
            response.headers["Access-Control-Expose-Headers"] = (
                "ETag, X-Cache, Afresh-Position, Afresh-Max-Rows, Afresh-Answered-By, Content-Disposition"
            )
            others = response.headers.get("Vary")
            response.headers["Vary"] = f"{others}, Origin" if others else "Origin"

    def _answers_to(self, host: str) -> bool:
        if self._hosts is None:
            return True
        called = read_origin(f"http://{host}")
        return called is not None and (is_loopback(called[1]) or called[1] in self._hosts)

    def _admits(self, origin: str) -> bool:
        return self._any or read_origin(origin) in self._named

    def _report(self, header: str, value: str) -> None:
        value = value[:200]
        if (header, value) not in self._reported and len(self._reported) < MAX_REPORTED:
            self._reported.add((header, value))
            self._observe(Refused(header=header, value=value))


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without brackets, is this machine's to itself."""
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign_origin(request: web.Request) -> str | None:
    """The origin of the page that asks, where that is not ours; None for programs too, which send none."""
    text = request.headers.get("Origin")
    if text is None:
        return None
    origin = read_origin(text)
    # By the page's own scheme: what ends TLS in front of us need not say that it does.
    return None if origin is not None and origin == read_origin(f"{origin[0]}://{request.host}") else text
