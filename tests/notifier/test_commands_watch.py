"""`afresh watch`, `afresh unwatch`, `afresh verify`: what they do, and what they say when they cannot."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import orjson
import pytest

from afresh_notifier.commands.sql import privileges
from conftest import ServerUnderTest
from notifier import folders
from notifier.command import afresh


@pytest.fixture
async def orders(db: asyncpg.Connection) -> asyncpg.Connection:
    """Two tables, one of them with an odd name."""
    await db.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, client text); CREATE VIEW recent AS TABLE orders;"
        'CREATE SCHEMA sales; CREATE TABLE sales."Odd Name" (id int)'
    )
    return db


async def watched(db: asyncpg.Connection) -> dict[str, list[str]]:
    return {row["table_name"]: row["keys"] for row in await db.fetch("SELECT table_name, keys FROM afresh.watched")}


async def test_watch_and_unwatch(tmp_path: Path, dsn: str, orders: asyncpg.Connection) -> None:
    ended = await afresh("watch", "orders", 'sales."Odd Name"', "--keys", "id", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == 'watching public.orders, keys id\nwatching sales."Odd Name", keys id\n'
    assert await watched(orders) == {"public.orders": ["id"], 'sales."Odd Name"': ["id"]}

    listed = await afresh("watch", "--list", folder=tmp_path, dsn=dsn)
    (line,) = (line for line in listed.out.splitlines() if "public.orders" in line)
    assert "id" in line
    assert "complete" in line

    ended = await afresh("unwatch", "orders", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "no longer watching public.orders\n")
    assert await watched(orders) == {'sales."Odd Name"': ["id"]}


async def test_unwatch_all_ends_every_watch(tmp_path: Path, dsn: str, orders: asyncpg.Connection) -> None:
    await orders.execute(
        "CREATE TABLE parted (id int) PARTITION BY LIST (id); CREATE TABLE part PARTITION OF parted DEFAULT;"
        "CREATE TABLE by_hand (id int); CREATE TRIGGER mine AFTER INSERT ON by_hand"
        " FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
    )
    await afresh("watch", "parted", 'sales."Odd Name"', folder=tmp_path, dsn=dsn)
    ended = await afresh("unwatch", "--all", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.err) == (0, "")
    assert sorted(ended.out.splitlines()) == [
        "no longer watching public.parted",
        'no longer watching sales."Odd Name"',
        "public.by_hand has no watch to end",
    ]
    assert await watched(orders) == {"public.by_hand": []}
    await orders.execute("DROP TABLE by_hand")
    ended = await afresh("unwatch", "--all", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "Nothing is watched.\n")


async def test_watch_without_tables_takes_those_of_settings_and_packs(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    pack = folders.pack(tmp_path, "mine", more='[[tables]]\nname = "orders"\nkeys = ["id"]\n[[tables]]\nname = "mine"')
    (tmp_path / "afresh.toml").write_text(
        f"packs = ['{pack}']\n[[tables]]\nname = 'public.orders'\nkeys = ['id', 'client']", encoding="utf-8"
    )
    await afresh("migrate", "up", folder=tmp_path, dsn=dsn)
    ended = await afresh("watch", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.err) == (0, "")
    assert await watched(orders) == {"public.orders": ["id", "client"], "public.mine": []}


async def test_a_table_of_the_settings_is_watched_with_its_keys(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    (tmp_path / "afresh.toml").write_text("[[tables]]\nname = 'orders'\nkeys = ['client']", encoding="utf-8")
    await afresh("watch", "public.orders", folder=tmp_path, dsn=dsn)
    assert await watched(orders) == {"public.orders": ["client"]}
    await afresh("watch", "orders", "--keys", "", folder=tmp_path, dsn=dsn)
    assert await watched(orders) == {"public.orders": []}


async def test_the_settings_may_name_a_table_and_leave_its_keys_to_the_packs(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    one = folders.pack(tmp_path, "one", more='[[tables]]\nname = "orders"\nkeys = ["id"]')
    two = folders.pack(tmp_path, "two", more='[[tables]]\nname = "orders"\nkeys = ["client"]')
    (tmp_path / "afresh.toml").write_text(f"packs = ['{one}', '{two}']\n[[tables]]\nname = 'orders'", encoding="utf-8")
    await afresh("watch", folder=tmp_path, dsn=dsn)
    assert await watched(orders) == {"public.orders": ["id", "client"]}


async def test_nothing_to_watch_is_told(tmp_path: Path, dsn: str) -> None:
    ended = await afresh("watch", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "there is nothing to watch" in ended.err


@pytest.mark.parametrize("command", ["watch", "unwatch"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ordres", "did you mean orders?"),
        ("public.order", "did you mean orders?"),
        ('"Orders"', "did you mean orders?"),
        ("sales.odd_name", 'did you mean sales."Odd Name"?'),
        ("qqqqqqq", "names with capital letters are written in quotes"),
    ],
)
async def test_a_table_that_is_not_there_is_told_with_what_was_meant(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection, command: str, name: str, hint: str
) -> None:
    ended = await afresh(command, "orders", name, folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert f"Error: there is no table {name}" in ended.err
    assert hint in ended.err
    assert await watched(orders) == {}  # the others wait until the names are right


async def test_what_is_no_name_is_told(tmp_path: Path, dsn: str) -> None:
    ended = await afresh("watch", "orders; DROP TABLE x", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "is no name of a relation: expected a name as SQL writes it" in ended.err


async def test_what_the_server_refuses_is_told_and_the_rest_is_done(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    ended = await afresh("watch", "recent", "orders", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "Error: cannot watch public.recent: it is a view" in ended.err
    assert "Hint: Watch the tables that the view reads." in ended.err
    assert await watched(orders) == {"public.orders": []}

    ended = await afresh("watch", "orders", "--keys", "colour", folder=tmp_path, dsn=dsn)
    assert "public.orders has no column colour" in ended.err
    assert "It has: id, client." in ended.err


@pytest.mark.parametrize("superuser", [True, False])
async def test_what_lets_the_role_watch_is_named_as_statements(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection, superuser: bool
) -> None:
    """The table of a superuser changes hands, rather than that anybody becomes a superuser."""
    role, owner = (f"afresh_test_{what}_{orders.get_server_pid()}" for what in ("role", "owner"))
    await orders.execute(f"CREATE ROLE {role}; CREATE ROLE {owner}")
    if not superuser:
        await orders.execute(f'ALTER TABLE sales."Odd Name" OWNER TO {owner}')
    limited = f"{dsn}{'&' if '?' in dsn else '?'}role={role}"
    try:
        refused = await afresh("watch", 'sales."Odd Name"', folder=tmp_path, dsn=limited)
        assert refused.code == 1
        statements = refused.err.partition("Hint: let the owner or a superuser run:\n")[2].splitlines()
        assert statements == [
            f"GRANT USAGE ON SCHEMA sales TO {role};",
            f'ALTER TABLE sales."Odd Name" OWNER TO {role};' if superuser else f"GRANT {owner} TO {role};",
        ]
        for statement in statements:
            await orders.execute(statement)
        ended = await afresh("watch", 'sales."Odd Name"', folder=tmp_path, dsn=limited)
        assert (ended.code, ended.err) == (0, "")
    finally:
        await orders.execute(f"DROP OWNED BY {role}, {owner}; DROP ROLE {role}; DROP ROLE {owner}")


async def test_what_lets_the_role_refresh_is_named_as_statements(
    tmp_path: Path, dsn: str, orders: asyncpg.Connection
) -> None:
    role = f"afresh_test_{orders.get_server_pid()}"
    await orders.execute(f"CREATE ROLE {role}; GRANT SELECT ON orders TO {role}")
    await orders.execute(privileges(role))  # before there is the view, so that it says nothing of that
    await orders.execute("CREATE MATERIALIZED VIEW totals AS SELECT id FROM orders; CREATE UNIQUE INDEX ON totals (id)")
    limited = f"{dsn}{'&' if '?' in dsn else '?'}role={role}"
    try:
        refused = await afresh("refresh", "--direct", "totals", folder=tmp_path, dsn=limited)
        assert refused.code == 1
        (statement,) = refused.err.partition("Hint: let the owner or a superuser run:\n")[2].splitlines()
        assert statement.startswith(("GRANT MAINTAIN ON public.totals", "ALTER MATERIALIZED VIEW public.totals OWNER"))
        await orders.execute(statement)
        assert (await afresh("refresh", "--direct", "totals", folder=tmp_path, dsn=limited)).code == 0

        await orders.execute(f"ALTER MATERIALIZED VIEW totals OWNER TO {role}; REVOKE SELECT ON orders FROM {role}")
        refused = await afresh("refresh", "--direct", "totals", folder=tmp_path, dsn=limited)
        assert "permission denied for table orders" in refused.err
        assert "Hint: a view is read with its owner's rights" in refused.err
    finally:
        await orders.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_options_that_do_not_go_together(tmp_path: Path, dsn: str) -> None:
    for arguments in (["--keys", "id"], ["--list", "orders"], ["--list", "--keys", "id"]):
        assert (await afresh("watch", *arguments, folder=tmp_path, dsn=dsn)).code == 2
    assert (await afresh("unwatch", folder=tmp_path, dsn=dsn)).code == 2
    assert (await afresh("unwatch", "--all", "orders", folder=tmp_path, dsn=dsn)).code == 2


async def test_a_database_without_the_engine_is_told(tmp_path: Path, server: ServerUnderTest) -> None:
    for arguments in (["watch", "orders"], ["watch", "--list"], ["unwatch", "orders"]):
        ended = await afresh(*arguments, folder=tmp_path, dsn=server.dsn("postgres"))
        assert ended.code == 1
        assert "Afresh is not installed in this database" in ended.err
        assert "Hint: run `afresh migrate up`" in ended.err


CHECKS = "SELECT 'one' AS check, '1' AS expected, {found} AS found, {ok} AS ok"


async def test_verify_shows_each_check(tmp_path: Path, dsn: str) -> None:
    good = folders.pack(tmp_path, "good", verify=CHECKS.format(found="'1'", ok="true"))
    ended = await afresh("verify", "--pack", good, folder=tmp_path, dsn=dsn)
    assert ended.code == 0
    assert "1 check, 0 failed" in ended.out


async def test_verify_fails_where_a_check_fails_and_runs_the_others(tmp_path: Path, dsn: str) -> None:
    verifies = {
        "bad": CHECKS.format(found="NULL::text", ok="NULL::boolean"),
        "broken": "SELECT 1 / 0 AS check",
        "columns": "SELECT 1 AS one",
        "empty": CHECKS.format(found="'1'", ok="true") + " WHERE false",
        "good": CHECKS.format(found="'[/]'", ok="true"),
        "two": "SELECT 1; SELECT 2",
        "writes": "CREATE TABLE x ()",
    }
    (tmp_path / "afresh.toml").write_text(
        f"packs = {[folders.pack(tmp_path, name, verify=text) for name, text in verifies.items()]}", encoding="utf-8"
    )
    ended = await afresh("verify", "--json", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    checks = {check["pack"]: check for check in orjson.loads(ended.out)}
    assert {name: check["ok"] for name, check in checks.items()} == {name: name == "good" for name in verifies}
    assert checks["broken"]["check"] == "verify.sql can be run"
    assert checks["columns"]["found"] == "a table of one"
    assert checks["empty"]["found"] == "none"
    assert "multiple commands" in checks["two"]["found"]

    shown = await afresh("verify", folder=tmp_path, dsn=dsn)
    assert shown.code == 1
    assert shown.out.count("FAILED") == len(verifies) - 1
    assert shown.out.splitlines()[-1].startswith("7 checks, 6 failed: bad, one; broken, verify.sql can be run; ")
    assert "[/]" in shown.out


async def test_verify_without_a_pack_says_which_there_are(tmp_path: Path, dsn: str) -> None:
    ended = await afresh("verify", folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "client_health" in ended.err


async def test_verify_of_a_pack_without_checks_is_an_error(tmp_path: Path, dsn: str) -> None:
    pack = folders.pack(tmp_path, "mine")
    ended = await afresh("verify", "--pack", pack, folder=tmp_path, dsn=dsn)
    assert ended.code == 1
    assert "pack mine: verify.sql cannot be read" in ended.err


async def test_a_table_that_is_watched_again_keeps_its_keys_unless_others_are_named(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute("CREATE TABLE orders (id int PRIMARY KEY, client text)")
    await afresh("watch", "orders", "--keys", "id", folder=tmp_path, dsn=dsn)
    for arguments, keys in ([], ["id"]), (["--keys", "client"], ["client"]), ([], ["client"]), (["--keys", ""], []):
        ended = await afresh("watch", "orders", *arguments, folder=tmp_path, dsn=dsn)
        assert ended.code == 0, ended.err
        assert await db.fetchval("SELECT keys FROM afresh.watched WHERE table_name = 'public.orders'") == keys
