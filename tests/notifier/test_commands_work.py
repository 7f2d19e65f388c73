"""`afresh embed` and `afresh jobs`, and what the doctor says of embeddings and jobs."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from notifier.command import afresh
from notifier.test_doctor import bad, examined
from support.openai_api import openai_api

DOCUMENTS = """
CREATE EXTENSION vector;
CREATE TABLE documents (id int PRIMARY KEY, body text, made vector(8));
INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 10) AS n;
SELECT afresh.watch_embedding('documents', 'body');
"""

SETTINGS = """
[[embeddings]]
table = "documents"
text = "body"
column = "made"
dimensions = 8

[embedding]
batch = 3
"""

SECTION = {"table": "documents", "text": "body", "column": "made", "dimensions": 8}


@pytest.fixture
async def documents(db: asyncpg.Connection, tmp_path: Path) -> asyncpg.Connection:
    await db.execute(DOCUMENTS)
    (tmp_path / "afresh.toml").write_text(SETTINGS)
    return db


async def lacking(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("SELECT count(*) FROM documents WHERE made IS NULL"))


async def test_texts_without_an_embedding_get_one_and_again_there_is_nothing_to_do(
    documents: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    ended = await afresh("embed", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "documents.body: 10 rows embedded, 0 failed\n"), ended.err
    assert await lacking(documents) == 0
    ended = await afresh("embed", "public.documents", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "documents.body: 0 rows embedded, 0 failed\n")
    ended = await afresh("embed", "--all", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "documents.body: 10 rows embedded, 0 failed\n")


async def test_what_fails_is_said_and_waits_and_is_done_by_the_next_run(
    documents: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with openai_api() as api:
        model = f'url = "{api.url}"\nmodel = "m"\ndimensions = 8\n'
        (tmp_path / "afresh.toml").write_text(SETTINGS + model)
        api.refused = "text 7"
        ended = await afresh("embed", folder=tmp_path, dsn=dsn)
        assert ended.code == 1
        assert ended.out == "documents.body: 9 rows embedded, 1 failed\n"
        assert "1 row could not be embedded" in ended.err
        assert "too long" in ended.err
        assert await lacking(documents) == 1
        api.refused, api.status = None, 503
        ended = await afresh("embed", folder=tmp_path, dsn=dsn)
        assert ended.code == 1
        assert "answers 503" in ended.err
        api.status = 200
        ended = await afresh("embed", folder=tmp_path, dsn=dsn)
        assert (ended.code, ended.out) == (0, "documents.body: 1 row embedded, 0 failed\n")
        assert await lacking(documents) == 0


async def test_a_table_that_is_not_named_in_the_settings_is_refused(
    documents: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    ended = await afresh("embed", "documnts", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "did you mean 'documents'?" in ended.err
    (tmp_path / "afresh.toml").write_text("")
    ended = await afresh("embed", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "there is nothing to embed" in ended.err


async def test_the_doctor_looks_at_embeddings(documents: asyncpg.Connection, dsn: str) -> None:
    (found,) = await bad(dsn, embeddings=[SECTION])
    assert found.about == "embeddings of documents.body"
    # The rows were there before their texts were watched: nobody has put them into the queue.
    assert (found.level, found.to_do) == ("warning", "run `afresh embed`")
    await documents.execute("UPDATE documents SET made = '[1,1,1,1,1,1,1,1]'")
    assert await bad(dsn, embeddings=[SECTION]) == []
    (found,) = await bad(dsn, embeddings=[{**SECTION, "dimensions": 9}])
    assert (found.level, found.to_do) == ("problem", "set dimensions = 8")


JOBS = """
[[jobs]]
name = "count"
schedule = "0 3 * * *"
file = "count.sql"
"""


async def test_jobs_are_shown_and_run_by_hand(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute("CREATE TABLE runs (n int GENERATED ALWAYS AS IDENTITY)")
    (tmp_path / "afresh.toml").write_text(JOBS)
    (tmp_path / "count.sql").write_text("INSERT INTO runs DEFAULT VALUES;")
    shown = await afresh("jobs", folder=tmp_path, dsn=dsn)
    assert shown.code == 0
    assert "never" in shown.out
    for number in (1, 2):
        ended = await afresh("jobs", "--run", "count", folder=tmp_path, dsn=dsn)
        assert (ended.code, ended.out) == (0, "count was run\n"), ended.err
        assert await db.fetchval("SELECT count(*) FROM runs") == number
    assert "ok" in (await afresh("jobs", folder=tmp_path, dsn=dsn)).out
    (tmp_path / "count.sql").write_text("SELECT 1 / 0")
    ended = await afresh("jobs", "--run", "count", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "count failed, and is undone: division by zero" in ended.err
    assert "failed 1 times: division by zero" in (await afresh("jobs", folder=tmp_path, dsn=dsn)).out
    ended = await afresh("jobs", "--run", "cuont", folder=tmp_path, dsn=dsn)
    assert "did you mean 'count'?" in ended.err
    (tmp_path / "afresh.toml").write_text("")
    assert "There are no jobs" in (await afresh("jobs", folder=tmp_path, dsn=dsn)).out


async def test_the_doctor_looks_at_jobs(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    section = {"name": "count", "schedule": "0 3 * * *", "file": str(tmp_path / "count.sql")}
    (tmp_path / "count.sql").write_text("SELECT later()")
    (found,) = await bad(dsn, jobs=[section])
    assert (found.level, found.about) == ("problem", "job count")
    await db.execute("CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    assert any(one.about == "job count" and one.level == "ok" for one in await examined(dsn, jobs=[section]))
    await db.execute("INSERT INTO afresh.jobs VALUES ('count', now(), NULL, NULL, 2, 'no luck')")
    (found,) = await bad(dsn, jobs=[section])
    assert (found.level, found.what) == ("warning", "it has failed 2 times in a row: no luck")
