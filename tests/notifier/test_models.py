"""What is asked of models, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_notifier import lexical
from afresh_notifier import models as models_module
from afresh_notifier.clock import loop_time
from afresh_notifier.errors import ModelError, ModelRefused
from afresh_notifier.models import Models, shortened
from afresh_notifier.observations import ChatFailed, Observation
from afresh_notifier.settings_work import ChatModelSettings, EmbeddingModelSettings
from support.openai_api import Api, openai_api


def nearness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@asynccontextmanager
async def asked(**settings: Any) -> AsyncIterator[tuple[Models, Api, list[Observation]]]:
    """Models of an API, with the settings of `[embedding]`."""
    seen: list[Observation] = []
    async with openai_api() as api:
        shared = {"url": api.url, "key": "secret-key", "model": "m"}
        embedding = EmbeddingModelSettings.model_validate({**shared, "dimensions": 16, **settings})
        chat = ChatModelSettings.model_validate({**shared, "timeout": settings.get("timeout", 20)})
        async with Models.opened(embedding, chat, seen.append) as models:
            yield models, api, seen


@given(st.text(max_size=200), st.sampled_from([8, 256, 768, 1024, 3072]))
def test_lexical_embeddings_have_length_one_and_are_the_same_every_time(text: str, dimensions: int) -> None:
    vector = lexical.embed(text, dimensions)
    assert len(vector) == dimensions
    assert vector == lexical.embed(text, dimensions)
    length = math.sqrt(sum(value * value for value in vector))
    assert length == pytest.approx(1.0) or length == 0.0


@pytest.mark.parametrize("dimensions", [256, 768, 1024, 3072])
def test_lexical_embeddings_find_what_shares_words_whatever_case_and_accents(dimensions: int) -> None:
    texts = [
        "Garden studio for two, close to the market, with a terrace",
        "Family apartment with four beds and a balcony; SEA VIEW from every room",
        "Mountain cabin, wood stove, sleeps six",
        "Estudio con piscina cerca de la estación",
    ]
    vectors = [list(shortened(lexical.embed(text, 3072), dimensions)) for text in texts]

    def nearest(question: str) -> int:
        made = list(shortened(lexical.embed(question, 3072), dimensions))
        return max(range(len(texts)), key=lambda number: nearness(made, vectors[number]))

    assert nearest("room with sea view for four") == 1
    assert nearest("a cabin in the mountains") == 2
    assert nearest("ESTACION") == 3
    assert nearest("terraces") == 0


def test_what_is_shortened_has_length_one_and_too_short_is_an_error() -> None:
    assert shortened([3.0, 4.0, 5.0], 2) == [0.6, 0.8]
    assert shortened([0.0, 0.0, 1.0], 2) == [0.0, 0.0]
    assert shortened([1e155, 1e155, 1e300], 2) == pytest.approx([0.5**0.5, 0.5**0.5])
    with pytest.raises(ModelError, match="made with 1 numbers, and 2 are needed") as caught:
        shortened([1.0], 2)
    assert "embedding.dimensions = 2" in caught.value.hint


async def test_a_long_text_is_embedded_without_keeping_everything_else_waiting() -> None:
    text = " ".join(map(str, range(40_000)))
    gaps = []

    async def beside() -> None:
        while True:
            began = loop_time()
            await asyncio.sleep(0)
            gaps.append(loop_time() - began)

    async with Models.opened(EmbeddingModelSettings(dimensions=64), ChatModelSettings(), lambda _: None) as models:
        task = asyncio.create_task(beside())
        began = loop_time()
        made = await models.embed([text])
        took = loop_time() - began
        task.cancel()
    assert max(gaps) < took / 2
    assert made == [lexical.embed(text, 64)]


async def test_texts_are_sent_in_batches_and_vectors_come_in_their_order() -> None:
    async with asked(batch=2) as (models, api, _):
        texts = ["one", "two", "  ", "three", "four", "five"]
        vectors = await models.embed(texts)
        assert vectors == [lexical.embed(text, 16) for text in texts]
        assert [request["input"] for request in api.requests] == [["one", "two"], ["three", "four"], ["five"]]
        assert {request["dimensions"] for request in api.requests} == {16}
        assert {request["model"] for request in api.requests} == {"m"}
        assert set(api.keys) == {"Bearer secret-key"}


async def test_an_answer_that_comes_in_many_pieces_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asked(dimensions=3072) as (models, _, _seen):
        texts = [f"text {number}" for number in range(40)]
        assert await models.embed(texts) == [lexical.embed(text, 3072) for text in texts]
        monkeypatch.setattr(models_module, "ANSWER_LIMIT", 100_000)
        with pytest.raises(ModelError, match="more than 100000 bytes"):
            await models.embed(texts)


@pytest.mark.parametrize(
    ("wrong", "problem", "kind"),
    [
        ({"status": 500}, "answers 500: not today", ModelError),
        ({"status": 401}, "answers 401", ModelError),
        ({"status": 429}, "answers 429", ModelError),
        ({"status": 400}, "answers 400: not today", ModelRefused),
        ({"dimensions": 9}, "have 9 numbers, and 16 were asked for", ModelError),
        ({"body": {"data": []}}, "1 texts were sent, and 0 embeddings came back", ModelError),
        ({"body": {"data": [{"index": 1, "embedding": [1] * 16}]}}, "1 texts were sent", ModelError),
        ({"body": {"data": [{"index": 0, "embedding": "x"}]}}, "not a list of embeddings", ModelError),
        ({"body": "nonsense"}, "not a list of embeddings", ModelError),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_says_so(
    wrong: dict[str, Any], problem: str, kind: type[ModelError]
) -> None:
    async with asked() as (models, api, _):
        for name, value in wrong.items():
            setattr(api, name, value)
        with pytest.raises(ModelError, match=problem) as caught:
            await models.embed(["text"])
        assert type(caught.value) is kind
        assert "secret-key" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("status", [400, 401])
async def test_what_a_model_says_is_repeated_in_one_line_without_the_key(status: int) -> None:
    async with asked(key=" secret-key\n") as (models, api, _):
        api.status, api.message = status, "your key secret-key\0is\nno good" + "!" * 100_000
        with pytest.raises(ModelError, match="your key … is no good!!!") as caught:
            await models.embed(["text"])
        assert api.keys == ["Bearer secret-key"]
        assert len(str(caught.value)) < 500


async def test_an_api_that_does_not_answer_or_is_not_there_is_an_error() -> None:
    async with asked(timeout=0.05) as (models, api, _):
        api.silent = True
        with pytest.raises(ModelError, match=r"did not answer within 0\.05 s"):
            await models.embed(["text"])
    with pytest.raises(ModelError, match="cannot be asked"):
        await models_of_nobody()


async def models_of_nobody() -> None:
    embedding = EmbeddingModelSettings.model_validate({"url": "http://127.0.0.1:9/v1", "model": "m"})
    async with Models.opened(embedding, ChatModelSettings(), lambda _: None) as models:
        await models.embed(["text"])


async def test_a_chat_has_the_model_s_answer_or_none_which_is_observed() -> None:
    async with asked(timeout=0.2) as (models, api, seen):
        messages = [{"role": "user", "content": "Hello"}]
        assert await models.chat("q", messages) == "Certainly."
        assert api.requests[-1] == {"model": "m", "messages": messages}
        assert seen == []
        for name, value in {"status": 503, "body": {"choices": []}, "silent": True}.items():
            api.status, api.body, api.silent = 200, None, False
            setattr(api, name, value)
            assert await models.chat("q", messages) is None
            assert isinstance(seen.pop(), ChatFailed)
    async with Models.opened(EmbeddingModelSettings(), ChatModelSettings(), seen.append) as models:
        assert await models.chat("q", messages) is None
        assert seen == []
