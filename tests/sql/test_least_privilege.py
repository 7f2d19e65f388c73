"""`sql/least_privilege.sql`: with it, a role that owns nothing can do all that the service does, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from click.testing import CliRunner

from afresh_notifier.cli import cli
from conftest import ServerUnderTest
from sql.hearing import Hearing

SCENE = """
    CREATE TABLE t (id int PRIMARY KEY, n int);
    INSERT INTO t VALUES (1, 1);
    CREATE SCHEMA closed;
    CREATE MATERIALIZED VIEW closed."The View" AS SELECT id FROM public.t;
    CREATE UNIQUE INDEX ON closed."The View" (id);
    SELECT afresh.watch('t', '{id}');
    INSERT INTO t VALUES (2, 2), (3, 3);
"""

#: What the service says to the database, in its own words or near to them.
STATEMENTS = {
    "look at the log": "SELECT EXISTS (SELECT FROM afresh.change_log WHERE xid >= '0'::xid8)",
    "take changes": """
        WITH seen AS (SELECT c.xid, c.id FROM afresh.change_log AS c ORDER BY c.xid, c.id LIMIT 10 FOR UPDATE SKIP LOCKED)
        DELETE FROM afresh.change_log AS c USING seen WHERE c.xid = seen.xid AND c.id = seen.id RETURNING c.*
    """,
    "fold the log": "INSERT INTO afresh.change_log (target, operation) VALUES ('public.t', 'UPDATE')",
    "let the bell ring": "SELECT setval('afresh.bell', extract(epoch FROM clock_timestamp())::bigint + 5)",
    "mark a view": """
        INSERT INTO afresh.dirty (view_name, slot, generation, tables, since)
        VALUES ('public.v', 0, nextval('afresh.generation'), '{public.t}', now())
        ON CONFLICT (view_name, slot) DO UPDATE SET generation = excluded.generation
    """,
    "clear the mark": """
        DELETE FROM afresh.dirty AS d
        USING (SELECT l.view_name, l.slot FROM afresh.dirty AS l FOR UPDATE OF l SKIP LOCKED) AS gone
        WHERE d.view_name = gone.view_name AND d.slot = gone.slot
    """,
    "append": "SELECT afresh.append_invalidation('{c}', '{public.t}', '{}', NULL, now())",
    "read the log": """
        SELECT l.*, (SELECT epoch FROM afresh.log_epoch), pg_current_wal_insert_lsn() FROM afresh.invalidation_log AS l
    """,
    "trim the log": "DELETE FROM afresh.invalidation_log WHERE id < 0",
    "take the lease": """
        INSERT INTO afresh.lease (term, holder, expires) VALUES (1, 'me', now())
        ON CONFLICT (term) DO NOTHING RETURNING term
    """,
    "renew the lease": "UPDATE afresh.lease SET expires = clock_timestamp() + interval '1 second' WHERE term = 1",
    "trim the leases": """
        DELETE FROM afresh.lease AS l
        USING (SELECT term FROM afresh.lease WHERE term < 0 FOR UPDATE SKIP LOCKED) AS old WHERE l.term = old.term
    """,
    "remember": """
        INSERT INTO afresh.known VALUES ('view', 'public.v', 'x')
        ON CONFLICT (kind, name) DO UPDATE SET name = excluded.name
    """,
    "forget": "DELETE FROM afresh.known",
    "what is watched": "SELECT w.*, m.state FROM afresh.watched AS w LEFT JOIN afresh.missing_triggers() AS m USING (root)",
    "what covers it": "SELECT * FROM afresh.covering_watch('public.t')",
    "what was migrated": "SELECT migration_id FROM public._pogo_migration",
    "listen": "LISTEN afresh",
}  # fmt: skip


def script(role: str) -> str:
    """What `afresh sql --role` prints."""
    result = CliRunner().invoke(cli, ["sql", "--role", role])
    assert result.exit_code == 0, result.output
    return str(result.output)


@pytest.fixture
async def role(db: asyncpg.Connection) -> AsyncIterator[str]:
    """A fresh login whose name is as odd as names may be; nothing that everybody has by default helps it."""
    name = f"odd \\ 'n\"ame %I {await db.fetchval('SELECT current_database()')}"
    quoted = await db.fetchval("SELECT quote_ident($1)", name)
    await db.execute(f"CREATE ROLE {quoted} LOGIN")
    await db.execute(SCENE + "REVOKE ALL ON SCHEMA afresh FROM public")
    await db.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA afresh FROM public")
    yield name
    await db.execute(f"RESET ROLE; DROP OWNED BY {quoted}; DROP ROLE {quoted}")


async def become(db: asyncpg.Connection, role: str) -> None:
    await db.execute(f"SET ROLE {await db.fetchval('SELECT quote_ident($1)', role)}")


async def test_role_can_do_what_the_service_does(db: asyncpg.Connection, role: str, ear: Hearing) -> None:
    for _ in range(2):  # it may be run again
        await db.execute(script(role))
    await become(db, role)
    found = {what: await db.fetch(statement) for what, statement in STATEMENTS.items()}
    assert len(found["look at the log"]) == len(found["take changes"]) == len(found["append"]) == 1
    assert found["what is watched"][0]["complete"]
    assert len(found["what was migrated"]) >= 16
    assert '{"v":1,"op":"LOG","offset":1}' in await ear.notifications()


@pytest.mark.parametrize("what", [what for what in STATEMENTS if what != "listen"])
async def test_without_the_script_the_role_cannot(db: asyncpg.Connection, role: str, what: str) -> None:
    await become(db, role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute(STATEMENTS[what])


async def test_role_refreshes_views_of_others_from_17_on(db: asyncpg.Connection, role: str) -> None:
    warnings: list[tuple[str, str]] = []
    db.add_log_listener(lambda _, said: warnings.append((said.message, said.hint)))
    await db.execute(script(role))
    quoted = await db.fetchval("SELECT quote_ident($1)", role)
    if db.get_server_version().major < 17:
        [(message, hint)] = warnings
        assert message.endswith('cannot refresh the materialized view closed."The View": '
                                "before PostgreSQL 17 that takes its ownership")  # fmt: skip
        statement = f'ALTER MATERIALIZED VIEW closed."The View" OWNER TO {quoted};'
        assert statement in hint
        await db.execute(f"GRANT CREATE ON SCHEMA closed TO {quoted}; GRANT SELECT ON t TO {quoted}; {statement}")
    else:
        assert warnings == []
    await become(db, role)
    await db.execute('REFRESH MATERIALIZED VIEW CONCURRENTLY closed."The View"')
    await db.execute("RESET ROLE")
    assert await db.fetchval('SELECT count(*) FROM closed."The View"') == 3
    await db.execute(script(role))
    assert len(warnings) == (1 if db.get_server_version().major < 17 else 0), "now it owns it"
    await db.execute('ALTER MATERIALIZED VIEW closed."The View" OWNER TO CURRENT_USER')


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM t",
        "DELETE FROM t",
        'SELECT FROM closed."The View"',
        "UPDATE afresh.log_identity SET incarnation = DEFAULT",
        "TRUNCATE afresh.change_log",
        "DROP TABLE afresh.dirty",
        "CREATE TABLE afresh.mine (id int)",
        "SELECT setval('afresh.generation', 1)",
    ],
)
async def test_role_can_do_nothing_else(db: asyncpg.Connection, role: str, statement: str) -> None:
    await db.execute(script(role))
    await become(db, role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute(statement)


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_name_of_the_role_cannot_say_anything_else(db: asyncpg.Connection, setting: str) -> None:
    await db.execute(f"SET escape_string_warning = off; SET standard_conforming_strings = {setting}")
    for name in ("x', false); DROP SCHEMA afresh CASCADE; --", "\\'; DROP SCHEMA afresh CASCADE; --", "$block$", "%s"):
        with pytest.raises(asyncpg.UndefinedObjectError, match="there is no role") as refusal:
            await db.execute(script(name))
        assert str(refusal.value.hint).startswith("Make it first: CREATE ROLE ")
        assert await db.fetchval("SELECT quote_ident($1)", name) in str(refusal.value)
    assert await db.fetchval("SELECT to_regnamespace('afresh') IS NOT NULL")


async def test_script_does_without_a_record_of_migrations(server: ServerUnderTest, db: asyncpg.Connection) -> None:
    await db.execute("DROP TABLE public._pogo_migration CASCADE")
    name = await db.fetchval("SELECT current_user")
    await db.execute(script(name))


@pytest.mark.parametrize("arguments", [["--role", ""], ["--role", "x", "--down"], ["--role", "x", "--pack", "y"]])
def test_role_that_cannot_be_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["sql", *arguments])
    assert result.exit_code == 2
    assert "--role" in result.output
