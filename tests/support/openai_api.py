"""An OpenAI-compatible API for tests: it makes embeddings and chats, and does what it is told to do wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from afresh_notifier import lexical


@dataclass(slots=True)
class Api:
    """What was asked, and how it is answered: ``status`` other than 200 refuses all, ``refused`` what holds a word."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    status: int = 200
    #: What is said with another status.
    message: str = "not today"
    refused: str | None = None
    silent: bool = False
    #: How many numbers there are in an embedding in place of what was asked for.
    dimensions: int | None = None
    #: A text with this word is answered with 500.
    poison: str | None = None
    #: The whole answer, in place of one that makes sense.
    body: Any = None
    reply: str = "Certainly."

    @property
    def texts(self) -> list[str]:
        """All texts of which embeddings were asked for, in order."""
        return [text for request in self.requests for text in request.get("input", [])]

    async def answer(self, request: web.Request) -> web.Response:
        """Answer."""
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.silent:
            await asyncio.sleep(3600)
        if self.status != 200:
            return web.json_response({"error": {"message": self.message}}, status=self.status)
        if self.body is not None:
            return web.json_response(self.body)
        if request.path.endswith("/chat/completions"):
            return web.json_response({"choices": [{"message": {"role": "assistant", "content": self.reply}}]})
        if self.refused is not None and any(self.refused in text for text in body["input"]):
            return web.json_response({"error": {"message": "too long"}}, status=400)
        if self.poison is not None and any(self.poison in text for text in body["input"]):
            return web.json_response({"error": {"message": "out of memory"}}, status=500)
        size = self.dimensions or body["dimensions"]
        made = [
            {"index": index, "embedding": lexical.embed(text, size), "object": "embedding"}
            for index, text in enumerate(body["input"])
        ]
        return web.json_response({"object": "list", "data": made[::-1]})


@asynccontextmanager
async def openai_api() -> AsyncIterator[Api]:
    """The API, for the block."""
    api = Api()
    application = web.Application()
    application.router.add_post("/v1/{tail:.*}", api.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        api.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield api
    finally:
        await runner.cleanup()
