"""What an async function returns, kept under a key that is made from its arguments.

In: a function, a template such as `clients:{client_id}`, a cache. Out: the same function, which asks the cache first.

Promised: two calls share an entry only if all arguments are equal that were not ignored by name, and no argument can
widen a pattern. What does not fit together is an error when the function is decorated, not when it is called.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Coroutine, Iterable
from functools import update_wrapper
from inspect import Parameter
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from afresh_cache.patterns import Template, segment
from afresh_cache.store import INHERIT, PatternCache, TimeToLive

V = TypeVar("V")
P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")

_STARS = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def cached(
    template: str,
    *,
    cache: PatternCache[V],
    ttl: TimeToLive = INHERIT,
    early: float = 0.0,
    ignore: Iterable[str] = (),
) -> Callable[[Callable[P, Coroutine[Any, Any, V]]], Cached[P, V]]:
    """Keep what an async function returns under the key that ``template`` gives, filled with the call's arguments.

        @cached("clients:{client_id}", cache=cache, ttl=30)
        async def client(client_id: int) -> Client: ...

    ``ignore`` names the parameters that make no difference to the result, such as a connection, or a method's ``self``.
    ``ttl`` and ``early`` are those of `PatternCache.load`. Raises ValueError for a malformed template, ``ttl`` or
    ``early``; decorating raises TypeError for what is no async function, and where template and parameters do not fit.
    """
    parsed = Template.parse(template)
    cache.load("", ttl=ttl, early=early)  # raises for bad ones here, and not at the first miss
    ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)

    def decorate(function: Callable[P, Coroutine[Any, Any, V]]) -> Cached[P, V]:
        return Cached(function, parsed, cache, ttl, early, ignored)

    return decorate


class Cached(Generic[P, V]):
    """An async function whose results are kept in ``cache``. The function itself is ``__wrapped__``."""

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, V]],
        template: Template,
        cache: PatternCache[V],
        ttl: TimeToLive,
        early: float,
        ignored: tuple[str, ...],
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{function!r} is no async function; cached() goes directly above `async def`, "
                "below @classmethod and @staticmethod"
            )
        update_wrapper(self, function)
        self.__wrapped__ = function
        self.cache = cache
        self._function = function
        self._ttl = ttl
        self._early = early
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters
        _check(function.__qualname__, template, parameters, ignored)
        # The text between the places, and the places, by name and by position.
        self._texts = template.pieces
        self._places = template.columns
        names = [one.name for one in parameters.values() if one.kind in _POSITIONAL]
        required = [name for name in names if parameters[name].default is Parameter.empty]
        only_named = [one.name for one in parameters.values() if one.kind is Parameter.KEYWORD_ONLY]
        # Most calls are by position alone; for these nothing has to be bound.
        if any(parameters[name].default is Parameter.empty for name in only_named):
            self._fewest, self._most = 1, 0
        else:
            self._fewest, self._most = len(required), len(names)
        self._defaults = tuple(parameters[name].default for name in names)
        self._positions = (
            tuple(names.index(place) for place in self._places) if set(self._places) <= set(names) else None
        )

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of such a call. Raises TypeError for a call that the function would not take, and for an argument that
        cannot stand in a key."""
        if not kwargs and self._positions is not None and self._fewest <= len(args) <= self._most:
            given = args + self._defaults[len(args) :]
            values: list[Any] = [given[position] for position in self._positions]
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = [bound.arguments[place] for place in self._places]
        first, *rest = self._texts
        return first + "".join(segment(value) + text for value, text in zip(values, rest, strict=True))

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> V:
        """What the function returns, or what is kept of it. As `PatternCache.get_or_load`, also where it is cancelled."""
        return await self.cache.get_or_load(
            self.key(*args, **kwargs), lambda: self._function(*args, **kwargs), ttl=self._ttl, early=self._early
        )

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], V], instance: S, owner: type | None = None) -> BoundCached[Q, V]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundCached(self, instance)


class BoundCached(Generic[P, V]):
    """A cached method of one instance."""

    __slots__ = ("__self__", "__wrapped__")

    def __init__(self, method: Cached[Any, V], instance: object) -> None:
        self.__wrapped__ = method
        self.__self__ = instance

    @property
    def cache(self) -> PatternCache[V]:
        """Where its results are kept."""
        return self.__wrapped__.cache

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of such a call, without the instance."""
        return self.__wrapped__.key(self.__self__, *args, **kwargs)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> V:
        """Call it."""
        return await self.__wrapped__(self.__self__, *args, **kwargs)


_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def _check(name: str, template: Template, parameters: Any, ignored: tuple[str, ...]) -> None:
    """Raises TypeError where not every parameter is either in the template or ignored, or the template does not tell their
    values apart."""
    for told, what in ((template.columns, f"the template {template.text!r}"), (ignored, "ignore")):
        for one in told:
            if one not in parameters:
                close = difflib.get_close_matches(one, parameters, n=1)
                guess = f"did you mean {close[0]!r}? " if close else ""
                has = ", ".join(parameters) or "none"
                raise TypeError(f"{what} names {one!r}, which {name}() does not take: {guess}its parameters are {has}")
    for one in template.columns:
        if star := _STARS.get(parameters[one].kind):
            raise TypeError(f"{star}{one} of {name}() cannot stand in a key: name what it holds, or ignore it")
        if one in ignored:
            raise TypeError(f"{one!r} of {name}() is in the template and ignored at once")
    if not template.tells_apart:
        raise TypeError(
            f"calls of {name}() that differ would share an entry: in the template {template.text!r} a value may hold what "
            "stands between two places; put a colon between them"
        )
    missing = [one for one in parameters if one not in template.columns and one not in ignored]
    if missing:
        listed = ", ".join(repr(one) for one in missing)
        raise TypeError(
            f"calls of {name}() that differ in {listed} would share an entry: put it into the template "
            f"{template.text!r}, or into ignore=(…) if the result does not hang on it"
        )
