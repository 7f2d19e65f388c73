"""The models: what makes embeddings of texts, and what answers in chats.

In: texts, or the messages of a chat. Out: a vector for each text, of as many numbers as `embedding.dimensions` says; or an
answer. Both are asked of any OpenAI-compatible API (`POST <url>/embeddings` and `<url>/chat/completions`); without one,
embeddings are `lexical`, and chats have no model.

Promised: each vector has the length that was asked for and finite numbers, or `ModelError` says what is wrong; keys are in
no message. A chat never fails: where its model does, that is observed, and there is no answer.

All vectors are asked for in the same dimensions, and shorter columns have their beginnings: so what is compared was made
alike, whoever asked for it.

Concurrency: no state but the pace, which is kept by whoever asks next. Cancelled, the request is dropped.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from afresh_notifier import lexical
from afresh_notifier.clock import loop_time
from afresh_notifier.errors import ModelError, ModelRefused
from afresh_notifier.observations import ChatFailed, Observe
from afresh_notifier.settings_work import ChatModelSettings, EmbeddingModelSettings, ModelSettings

Vector = Sequence[float]
Answer = TypeVar("Answer")

#: Answers by which a model says that it is what it was sent that is wrong.
REFUSALS = (400, 413, 422)

#: The most that is read of an answer, in bytes.
ANSWER_LIMIT = 256 * 1024 * 1024

#: A text of more characters is not embedded on the event loop, which others need: that takes more than some milliseconds.
LONG_TEXT = 2_000

#: The most that is repeated of what a model says that does not answer, in characters.
SAID_LIMIT = 300

#: What to do about others.
_HINTS = {
    401: "check its key",
    403: "check its key",
    404: "check url and model",
    429: "set embedding.pace, or ask for less",
}


class _Embedding(BaseModel):
    embedding: list[float]
    index: int


class _Embeddings(BaseModel):
    data: list[_Embedding]


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)


_EMBEDDINGS, _COMPLETION = TypeAdapter(_Embeddings), TypeAdapter(_Completion)


class Models:
    """What is asked of models. Make it with `opened`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        embedding: EmbeddingModelSettings,
        chat: ChatModelSettings,
        observe: Observe,
    ) -> None:
        self._session = session
        self._embedding = embedding
        self._chat = chat
        self._observe = observe
        self._next_request = -math.inf
        #: Held by whoever has a long text embedded here.
        self._long = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, embedding: EmbeddingModelSettings, chat: ChatModelSettings, observe: Observe
    ) -> AsyncIterator[Self]:
        """For the block."""
        async with aiohttp.ClientSession() as session:
            yield cls(session, embedding, chat, observe)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """A vector for each text; zeros for one without any letters. Raises `ModelError` or `ModelRefused`."""
        asked = [text for text in texts if text.strip()]
        made = iter(await (self._lexical(asked) if self._embedding.url is None else self._of_the_api(asked)))
        return [next(made) if text.strip() else [0.0] * self._embedding.dimensions for text in texts]

    async def chat(self, query: str, messages: Any) -> str | None:
        """The model's answer for the named query ``query``; None where there is no model, or it gives none."""
        if self._chat.url is None:
            return None
        try:
            answer = await self._post(self._chat, "chat/completions", {"messages": messages})
            content = _read(_COMPLETION, answer, "a chat completion").choices[0].message.content
            return content.replace("\0", "")  # which is in no text of PostgreSQL's
        except ModelError as error:
            self._observe(ChatFailed(query=query, problem=error.problem, hint=error.hint))
            return None

    async def _lexical(self, texts: Sequence[str]) -> list[Vector]:
        made: list[Vector] = []
        for text in texts:
            if len(text) > LONG_TEXT:  # one at a time, and beside the loop: a megabyte takes seconds
                async with self._long:
                    made.append(await asyncio.to_thread(lexical.embed, text, self._embedding.dimensions))
            else:
                made.append(lexical.embed(text, self._embedding.dimensions))
                await asyncio.sleep(0)
        return made

    async def _of_the_api(self, texts: Sequence[str]) -> list[Vector]:
        made: list[Vector] = []
        for start in range(0, len(texts), self._embedding.batch):
            made += await self._request(texts[start : start + self._embedding.batch])
        return made

    async def _request(self, texts: Sequence[str]) -> list[Vector]:
        wait = self._next_request - loop_time()
        self._next_request = max(loop_time(), self._next_request) + self._embedding.pace
        if wait > 0:
            await asyncio.sleep(wait)
        dimensions = self._embedding.dimensions
        body = {"input": list(texts), "dimensions": dimensions, "encoding_format": "float"}
        answer = _read(_EMBEDDINGS, await self._post(self._embedding, "embeddings", body), "a list of embeddings")
        vectors = {one.index: one.embedding for one in answer.data}
        if sorted(vectors) != list(range(len(texts))) or len(answer.data) != len(texts):
            raise ModelError(f"{len(texts)} texts were sent, and {len(answer.data)} embeddings came back")
        for vector in vectors.values():
            if len(vector) != dimensions:
                raise ModelError(
                    f"embeddings of {self._embedding.model} have {len(vector)} numbers, and {dimensions} were asked for",
                    hint=f"set embedding.dimensions = {len(vector)}, or name a model that can be asked for {dimensions}",
                )
            if not all(map(math.isfinite, vector)):
                raise ModelError(f"an embedding of {self._embedding.model} has numbers that are not finite")
        return [vectors[index] for index in range(len(texts))]

    async def _post(self, settings: ModelSettings, path: str, body: dict[str, Any]) -> bytes:
        url = f"{settings.url}/{path}"
        headers = {"Content-Type": "application/json"}
        if settings.key is not None:
            headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
        try:
            async with self._session.post(
                url,
                data=orjson.dumps({"model": settings.model, **body}),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=settings.timeout),
                allow_redirects=False,
            ) as response:
                content = await _content(url, response)
                if response.status != 200:
                    raise _refusal(url, response.status, content, settings)
                return content
        except TimeoutError as error:
            raise ModelError(
                f"{url} did not answer within {settings.timeout:g} s",
                hint="raise its timeout, or ask for less at a time",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ModelError(f"{url} cannot be asked: {error}", hint="check the url, and whether it runs") from error


def shortened(vector: Vector, dimensions: int) -> Vector:
    """The beginning of ``vector`` in so many ``dimensions``, of length 1 again. Raises ModelError where it is too short."""
    if len(vector) < dimensions:
        raise ModelError(
            f"embeddings are made with {len(vector)} numbers, and {dimensions} are needed",
            hint=f"set embedding.dimensions = {dimensions} or more",
        )
    beginning = vector[:dimensions]
    length = math.hypot(*beginning)
    return [value / length for value in beginning] if length else beginning


def _read(adapter: TypeAdapter[Answer], content: bytes, what: str) -> Answer:
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ModelError(
            f"what came back is not {what}: {first['msg']}", hint="check that url is an OpenAI-compatible API"
        ) from error


async def _content(url: str, response: aiohttp.ClientResponse) -> bytes:
    """All of an answer, which comes in pieces. Raises `ModelError` where there is no end of it."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > ANSWER_LIMIT:
            raise ModelError(f"{url} answers with more than {ANSWER_LIMIT} bytes", hint="check url and model")
        pieces.append(piece)
    return b"".join(pieces)


def _refusal(url: str, status: int, content: bytes, settings: ModelSettings) -> ModelError:
    """What a model says that does not answer: some of it, in one line, and without the key, which some APIs repeat."""
    try:
        document = orjson.loads(content)
        said = document["error"]["message"] if isinstance(document["error"], dict) else document["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = content[:2000].decode("utf-8", "replace")
    text = str(said)
    if settings.key is not None and settings.key.get_secret_value():
        text = text.replace(settings.key.get_secret_value(), "…")
    text = " ".join(text.replace("\0", " ").split())  # what PostgreSQL takes for a text, too
    problem = f"{url} answers {status}: {text[:SAID_LIMIT]}"
    if status in REFUSALS:
        return ModelRefused(problem)
    return ModelError(problem, hint=_HINTS.get(status, ""))
