"""Who may read and write what in ``client_health``: each role, honest and hostile, and the service's own login."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from afresh_notifier import migrate, packs
from afresh_notifier.cli import cli
from conftest import ServerUnderTest
from packs.client_health_support import PACK, TABLES, VIEWS, pack_down, pack_up, refresh

SCENE = """
    INSERT INTO nps_clients (client_name, segment, cse) VALUES
        ('Alder', 'Gold', 'Amara'), ('Amber', 'Gold', 'Amara'), ('Birch', 'Gold', 'Ben'),
        ('Nobody''s', 'Gold', NULL), ('Empty', 'Gold', '');
    INSERT INTO segmentation_tiers (tier_name) VALUES ('Gold');
    INSERT INTO segmentation_event_types (event_name) VALUES ('Visit');
    INSERT INTO tier_event_requirements (tier_id, event_type_id, expected_count)
        SELECT t.id, e.id, 1 FROM segmentation_tiers AS t, segmentation_event_types AS e;
    INSERT INTO nps_responses (client_name, score) SELECT client_name, 9 FROM nps_clients;
    INSERT INTO unified_meetings (client_name, meeting_date) SELECT client_name, current_date - 1 FROM nps_clients;
    INSERT INTO actions ("Client") SELECT client_name FROM nps_clients UNION ALL SELECT NULL;
    INSERT INTO segmentation_events (client_name, event_type_id, event_date, completed)
        SELECT client_name, e.id, current_date, true FROM nps_clients, segmentation_event_types AS e;
    INSERT INTO segmentation_event_compliance (client_name, event_type_id, year, compliance_percentage, status)
        SELECT client_name, e.id, 2024, 50, 'at-risk' FROM nps_clients, segmentation_event_types AS e;
"""

#: The tables that hold a client's records, and their column for the client.
RECORDS = {
    "nps_responses": "client_name",
    "unified_meetings": "client_name",
    "actions": '"Client"',
    "segmentation_events": "client_name",
    "segmentation_event_compliance": "client_name",
}

#: What a new record of a client $1 is.
NEW_RECORDS = {
    "nps_responses": "INSERT INTO nps_responses (client_name, score) VALUES ($1, 0)",
    "unified_meetings": "INSERT INTO unified_meetings (client_name, meeting_date) VALUES ($1, '2024-01-01')",
    "actions": 'INSERT INTO actions ("Client") VALUES ($1)',
    "segmentation_events": (
        "INSERT INTO segmentation_events (client_name, event_type_id, event_date)"
        " SELECT $1, id, '2024-01-01' FROM segmentation_event_types"
    ),
    "segmentation_event_compliance": (
        "INSERT INTO segmentation_event_compliance (client_name, event_type_id, year, compliance_percentage, status)"
        " SELECT $1, id, 2023, 0, 'critical' FROM segmentation_event_types"
    ),
}

REFERENCE = ("segmentation_tiers", "segmentation_event_types", "tier_event_requirements")

AMARA = {"user_role": "cse", "cse": "Amara"}
MANAGER = {"user_role": "manager"}

DENIED = asyncpg.InsufficientPrivilegeError


@pytest.fixture(scope="module")
def scene(server: ServerUnderTest, pack_template: str) -> Iterator[str]:
    """A database with the pack and five clients in it, fresh; every test changes it in a transaction that it rolls back."""

    async def fill(name: str) -> None:
        connection = await asyncpg.connect(server.dsn(name))
        await connection.execute(SCENE)
        await refresh(connection)
        await connection.close()

    name = asyncio.run(server.create(pack_template))
    asyncio.run(fill(name))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def db(server: ServerUnderTest, scene: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner, in a transaction of which nothing remains."""
    connection = await asyncpg.connect(server.dsn(scene))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@asynccontextmanager
async def acting(db: asyncpg.Connection, role: str, claims: object = None) -> AsyncIterator[None]:
    """For the block: this role, with these claims (a text as it stands). A block that fails is undone."""
    async with db.transaction():
        text = claims if isinstance(claims, str) else "" if claims is None else json.dumps(claims)
        await db.execute("SELECT set_config('request.jwt.claims', $1, true)", text)
        await db.execute(f"SET LOCAL ROLE {role}")
        yield
        await db.execute("RESET ROLE")
        await db.execute("SELECT set_config('request.jwt.claims', '', true)")


async def refused(db: asyncpg.Connection, role: str, claims: object, statement: str, *arguments: object) -> str:
    """The statement must be refused; returns in which words."""
    with pytest.raises(DENIED) as raised:
        async with acting(db, role, claims):
            await db.execute(statement, *arguments)
    return str(raised.value)


async def clients_of(db: asyncpg.Connection, table: str) -> set[Any]:
    """Whose rows are seen."""
    column = RECORDS.get(table, "client_name")
    return {row[0] for row in await db.fetch(f"SELECT {column} FROM {table}")}


# -- anon -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "relation", [*TABLES, *VIEWS, *(f"{view}_live" for view in VIEWS), "my_client_health", "my_event_compliance"]
)
async def test_anon_may_do_nothing_whatever_he_claims(db: asyncpg.Connection, relation: str) -> None:
    for claims in (None, MANAGER, {"role": "service_role"}):
        await refused(db, "anon", claims, f"SELECT FROM {relation}")
        await refused(db, "anon", claims, f"SELECT count(*) FROM {relation}")
        if relation in TABLES:
            await refused(db, "anon", claims, f"DELETE FROM {relation}")
            await refused(db, "anon", claims, f"UPDATE {relation} SET id = id")
            await refused(db, "anon", claims, f"INSERT INTO {relation} DEFAULT VALUES")
            await refused(db, "anon", claims, f"TRUNCATE {relation} CASCADE")
            await refused(db, "anon", claims, f"SELECT setval('{relation}_id_seq', 1)")


@pytest.mark.parametrize(
    "call",
    [
        "SELECT * FROM client_nps('Alder')",
        "SELECT * FROM client_meetings('Alder')",
        "SELECT * FROM client_actions('Alder')",
        "SELECT * FROM client_compliance('Alder')",
        "SELECT * FROM client_event_types('Alder', 'Gold', 2024)",
        "SELECT client_health_unprotect('nps_clients')",
        "SELECT client_health_protect('nps_clients')",
    ],
)
async def test_anon_gets_nothing_out_of_the_functions(db: asyncpg.Connection, call: str) -> None:
    await refused(db, "anon", MANAGER, call)


# -- authenticated, with claims that are none -------------------------------------------------------------------------

EMPTY_CLAIMS: list[Any] = [
    None,
    "null",
    "[]",
    "1",
    '"manager"',
    '["manager"]',
    {},
    {"user_role": "cse"},
    {"cse": "Amara"},
    {"user_role": "cse", "cse": ""},
    {"user_role": "cse", "cse": None},
    {"user_role": "cse", "cse": ["Amara"]},
    {"user_role": "cse", "cse": {"Amara": True}},
    {"user_role": "cse", "cse": "amara"},
    {"user_role": "cse", "cse": "Amara "},
    {"user_role": "cse", "cse": "%"},
    {"user_role": "cse", "cse": "x' OR true --"},
    {"user_role": "CSE", "cse": "Amara"},
    {"user_role": ["manager"]},
    {"user_role": {"manager": True}},
    {"user_role": True},
    {"user_role": "manager "},
    {"user_role": "Manager"},
    {"user_role": "", "role": "manager"},
    {"user_role": "reader", "role": "manager"},
    {"user_role": "cse", "role": "manager"},
    {"role": "service_role"},
    {"role": "authenticated", "app_metadata": {"user_role": "manager"}},
    {"User_Role": "manager"},
]


@pytest.mark.parametrize("claims", EMPTY_CLAIMS, ids=str)
async def test_without_claims_that_say_who_he_is_he_sees_and_changes_nothing(
    db: asyncpg.Connection, claims: object
) -> None:
    async with acting(db, "authenticated", claims):
        for relation in ("nps_clients", *RECORDS, "my_client_health", "my_event_compliance"):
            assert await clients_of(db, relation) == set(), relation
        for table in ("nps_clients", *RECORDS):
            assert await db.execute(f"DELETE FROM {table}") == "DELETE 0"
            assert await db.execute(f"UPDATE {table} SET updated_at = now()") == "UPDATE 0"
        for table in REFERENCE:
            assert await db.fetchval(f"SELECT count(*) FROM {table}") == 1
            assert await db.execute(f"DELETE FROM {table}") == "DELETE 0"
    for statement in NEW_RECORDS.values():
        await refused(db, "authenticated", claims, statement, "Alder")
    await refused(db, "authenticated", claims, "INSERT INTO nps_clients (client_name, cse) VALUES ('Mine', 'Amara')")


async def test_claims_that_were_never_set_are_none(server: ServerUnderTest, scene: str) -> None:
    connection = await asyncpg.connect(server.dsn(scene))
    try:
        await connection.execute("SET ROLE authenticated")
        assert await clients_of(connection, "nps_clients") == set()
        assert await clients_of(connection, "my_client_health") == set()
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "claims", ["{", "manager", '{"user_role":"manager"', "{'user_role':'manager'}", '{"a":"\\u0000"}']
)
async def test_claims_that_are_no_json_are_an_error_and_nothing_is_read_or_written(
    db: asyncpg.Connection, claims: str
) -> None:
    for statement in (
        *(f"SELECT * FROM {relation}" for relation in ("nps_clients", *RECORDS, "my_client_health")),
        "UPDATE nps_clients SET cse = 'Amara'",
        "DELETE FROM nps_responses",
        "INSERT INTO nps_responses (client_name, score) VALUES ('Alder', 0)",
    ):
        with pytest.raises((asyncpg.InvalidTextRepresentationError, asyncpg.UntranslatableCharacterError)):
            async with acting(db, "authenticated", claims):
                await db.fetch(statement)
    assert await db.fetchval("SELECT count(*) FROM nps_responses WHERE score = 9") == 5


# -- authenticated, a CSE ---------------------------------------------------------------------------------------------


async def test_a_cse_reads_his_own_clients_and_their_records(db: asyncpg.Connection) -> None:
    for claims in (AMARA, {"role": "cse", "cse": "Amara"}):
        async with acting(db, "authenticated", claims):
            for relation in ("nps_clients", *RECORDS, "my_client_health", "my_event_compliance"):
                assert await clients_of(db, relation) == {"Alder", "Amber"}, relation
            for table in REFERENCE:
                assert await db.fetchval(f"SELECT count(*) FROM {table}") == 1


async def test_a_cse_gets_figures_of_his_own_clients_and_none_of_others(db: asyncpg.Connection) -> None:
    async with acting(db, "authenticated", AMARA):
        for client, rows in (("Alder", 1), ("Birch", 0)):
            assert await db.fetchval("SELECT responses FROM client_nps($1)", client) == rows
            assert await db.fetchval("SELECT held FROM client_meetings($1)", client) == rows
            assert await db.fetchval("SELECT open_actions FROM client_actions($1)", client) == rows
            assert await db.fetchval("SELECT event_types FROM client_compliance($1)", client) == rows
            year = await db.fetchval("SELECT extract(year FROM current_date)::int")
            types = await db.fetch("SELECT actual_count FROM client_event_types($1, 'Gold', $2)", client, year)
            assert [row[0] for row in types] == [rows]


async def test_a_cse_changes_his_own_clients_and_gives_none_away(db: asyncpg.Connection) -> None:
    async with acting(db, "authenticated", AMARA):
        assert await db.execute("UPDATE nps_clients SET segment = 'Silver'") == "UPDATE 2"
        assert await db.execute("UPDATE nps_clients SET segment = 'x' WHERE client_name = 'Birch'") == "UPDATE 0"
        assert await db.execute("UPDATE nps_clients SET cse = 'Amara' WHERE cse = 'Ben' OR cse IS NULL") == "UPDATE 0"
        assert await db.execute("DELETE FROM nps_clients") == "DELETE 0"
    for cse in ("'Ben'", "NULL", "''", "'amara'"):
        assert "row-level security" in await refused(db, "authenticated", AMARA, f"UPDATE nps_clients SET cse = {cse}")
    for cse in ("Amara", "Ben"):
        await refused(db, "authenticated", AMARA, f"INSERT INTO nps_clients (client_name, cse) VALUES ('New', '{cse}')")
    assert await db.fetchval("SELECT count(*) FROM nps_clients WHERE segment = 'Gold'") == 3


async def test_a_client_whom_his_cse_renames_takes_the_records_along(db: asyncpg.Connection) -> None:
    async with acting(db, "authenticated", AMARA):
        await db.execute("UPDATE nps_clients SET client_name = 'Alder & Co' WHERE client_name = 'Alder'")
        for table in RECORDS:
            assert await clients_of(db, table) == {"Alder & Co", "Amber"}


@pytest.mark.parametrize("table", RECORDS)
async def test_a_cse_writes_the_records_of_his_own_clients_and_of_no_others(db: asyncpg.Connection, table: str) -> None:
    column = RECORDS[table]
    async with acting(db, "authenticated", AMARA):
        assert await db.execute(NEW_RECORDS[table], "Alder") == "INSERT 0 1"
        assert await db.execute(f"UPDATE {table} SET updated_at = now()") == "UPDATE 3"
        assert await db.execute(f"DELETE FROM {table} WHERE {column} = 'Alder'") == "DELETE 2"
        # Those of others cannot be taken over, changed or deleted.
        assert await db.execute(f"UPDATE {table} SET {column} = 'Amber' WHERE {column} = 'Birch'") == "UPDATE 0"
        assert await db.execute(f"DELETE FROM {table} WHERE {column} = 'Birch'") == "DELETE 0"
        assert await db.fetch(f"SELECT FROM {table} WHERE {column} = 'Birch' FOR UPDATE") == []
    said = {
        await refused(db, "authenticated", AMARA, NEW_RECORDS[table], name) for name in ("Birch", "Empty", "no one")
    }
    # The same words for a client of somebody else's and for one who does not exist.
    assert said == {f'new row violates row-level security policy for table "{table}"'}
    assert said == {
        await refused(db, "authenticated", AMARA, f"UPDATE {table} SET {column} = '{name}'")
        for name in ("Birch", "Empty", "no one")
    }
    assert await clients_of(db, table) >= {"Amber", "Birch", "Nobody's", "Empty"}


async def test_internal_actions_are_the_managers(db: asyncpg.Connection) -> None:
    async with acting(db, "authenticated", AMARA):
        assert await db.execute('DELETE FROM actions WHERE "Client" IS NULL') == "DELETE 0"
        assert await db.execute('UPDATE actions SET "Client" = \'Alder\' WHERE "Client" IS NULL') == "UPDATE 0"
    await refused(db, "authenticated", AMARA, 'UPDATE actions SET "Client" = NULL')
    await refused(db, "authenticated", AMARA, "INSERT INTO actions (\"Description\") VALUES ('x')")


async def test_a_conflict_turns_no_insert_into_a_change_of_somebody_else_s_row(db: asyncpg.Connection) -> None:
    birch = await db.fetchval("SELECT id FROM nps_responses WHERE client_name = 'Birch'")
    await refused(
        db,
        "authenticated",
        AMARA,
        "INSERT INTO nps_responses (id, client_name, score) VALUES ($1, 'Alder', 0)"
        " ON CONFLICT (id) DO UPDATE SET client_name = 'Alder', score = 0",
        birch,
    )


# -- authenticated, a manager -----------------------------------------------------------------------------------------


async def test_a_manager_reads_and_writes_everything(db: asyncpg.Connection) -> None:
    everybody = await clients_of(db, "nps_clients")
    for claims in (MANAGER, {"role": "manager"}):
        async with acting(db, "authenticated", claims):
            for relation in ("nps_clients", *RECORDS, "my_client_health", "my_event_compliance"):
                assert await clients_of(db, relation) - {None} == everybody, relation
            assert None in await clients_of(db, "actions")
    async with acting(db, "authenticated", MANAGER):
        await db.execute("UPDATE nps_clients SET cse = 'Ben'")
        await db.execute("INSERT INTO nps_clients (client_name, cse) VALUES ('New', NULL)")
        for table, statement in NEW_RECORDS.items():
            assert await db.execute(statement, "New") == "INSERT 0 1"
            assert await db.execute(f"DELETE FROM {table} WHERE {RECORDS[table]} = 'New'") == "DELETE 1"
        await db.execute("DELETE FROM nps_clients WHERE client_name = 'New'")
        assert await db.execute("UPDATE segmentation_tiers SET tier_name = 'Best'") == "UPDATE 1"
        assert await db.execute("DELETE FROM tier_event_requirements") == "DELETE 1"
        assert await db.execute("INSERT INTO segmentation_event_types (event_name) VALUES ('Call')") == "INSERT 0 1"


@pytest.mark.parametrize("claims", [AMARA, MANAGER], ids=["cse", "manager"])
@pytest.mark.parametrize("table", TABLES)
async def test_what_policies_do_not_cover_is_not_granted(
    db: asyncpg.Connection, table: str, claims: dict[str, str]
) -> None:
    await refused(db, "authenticated", claims, f"TRUNCATE {table} CASCADE")
    await refused(db, "authenticated", claims, f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    await refused(db, "authenticated", claims, f"DROP POLICY client_health_manager ON {table}")
    await refused(db, "authenticated", claims, f"SELECT setval('{table}_id_seq', 1)")
    await refused(
        db,
        "authenticated",
        claims,
        f"CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )


@pytest.mark.parametrize("claims", [AMARA, MANAGER], ids=["cse", "manager"])
@pytest.mark.parametrize("view", [*VIEWS, *(f"{view}_live" for view in VIEWS)])
async def test_the_summaries_themselves_are_closed(db: asyncpg.Connection, view: str, claims: dict[str, str]) -> None:
    await refused(db, "authenticated", claims, f"SELECT FROM {view}")
    if view in VIEWS:
        with pytest.raises(DENIED):
            async with acting(db, "authenticated", claims):
                await db.execute(f"REFRESH MATERIALIZED VIEW {view}")


@pytest.mark.parametrize("view", ["my_client_health", "my_event_compliance"])
async def test_a_client_who_is_given_away_is_out_of_sight_before_any_refresh(db: asyncpg.Connection, view: str) -> None:
    await db.execute("UPDATE nps_clients SET cse = 'Ben' WHERE client_name = 'Alder'")
    for cse, clients in (("Amara", {"Amber"}), ("Ben", {"Alder", "Birch"})):
        async with acting(db, "authenticated", {"user_role": "cse", "cse": cse}):
            assert await clients_of(db, view) == clients


@pytest.mark.parametrize("relation", ["nps_clients", "my_client_health", "my_event_compliance"])
async def test_no_cheap_function_is_shown_a_row_that_is_not_his(db: asyncpg.Connection, relation: str) -> None:
    await db.execute("""
        CREATE FUNCTION tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
        AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
    """)
    heard: set[str] = set()
    db.add_log_listener(lambda _, message: heard.add(message.message))
    async with acting(db, "authenticated", AMARA):
        await db.fetch(f"SELECT * FROM {relation} WHERE tell(client_name)")
    assert heard == {"Alder", "Amber"}


async def test_with_the_caller_s_rights_a_live_view_shows_what_is_his(db: asyncpg.Connection) -> None:
    """Nobody is granted them; somebody who were would see the same clients, with the figures of their records."""
    if db.get_server_version().major < 15:
        pytest.skip("views with the caller's rights came with PostgreSQL 15")
    for view in VIEWS:
        await db.execute(f"GRANT SELECT ON {view}_live TO authenticated")
        everything = await db.fetch(f"SELECT * FROM {view}_live WHERE cse = 'Amara' ORDER BY client_name")
        async with acting(db, "authenticated", AMARA):
            assert await db.fetch(f"SELECT * FROM {view}_live ORDER BY client_name") == everything


async def test_what_somebody_writes_is_told_to_the_service(db: asyncpg.Connection) -> None:
    async with acting(db, "authenticated", AMARA):
        await db.execute("UPDATE nps_responses SET score = 1")
    found = await db.fetchrow("SELECT target::text, keys FROM afresh.change_log ORDER BY id DESC LIMIT 1")
    assert found is not None
    assert found["target"] == "nps_responses"
    assert {key["client_name"] for key in json.loads(found["keys"])} == {"Alder", "Amber"}
    await refused(db, "authenticated", MANAGER, "SELECT FROM afresh.change_log")


# -- service_role, the owner, the service -----------------------------------------------------------------------------


async def test_service_role_reads_and_writes_everything_without_claims(db: asyncpg.Connection) -> None:
    everybody = await clients_of(db, "nps_clients")
    async with acting(db, "service_role"):
        for relation in ("nps_clients", *RECORDS, *VIEWS, *(f"{view}_live" for view in VIEWS)):
            assert await clients_of(db, relation) - {None} == everybody, relation
        await db.execute("UPDATE nps_clients SET cse = 'Ben'")
        for statement in NEW_RECORDS.values():
            assert await db.execute(statement, "Birch") == "INSERT 0 1"
        for table in REFERENCE:
            assert await db.fetchval(f"SELECT count(*) FROM {table}") == 1
        await db.execute(f"TRUNCATE {', '.join(TABLES)}")


async def test_every_policy_says_what_it_is_for_and_the_page_names_it(db: asyncpg.Connection) -> None:
    policies = await db.fetch("SELECT polname, obj_description(oid, 'pg_policy') AS comment FROM pg_policy")
    assert len(policies) == 37
    assert all(policy["comment"] for policy in policies)
    page = (Path(__file__).parents[2] / "docs" / "packs" / "client_health.md").read_text(encoding="utf-8")
    for name in {policy["polname"] for policy in policies}:
        assert f"`{name}`" in page, name
    for table in (*TABLES, *VIEWS, "my_client_health", "my_event_compliance"):
        assert f"`{table}`" in page.partition("## Who may read and write what")[2], table


@pytest.fixture
async def plain(server: ServerUnderTest) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """A database whose owner, a role without any privilege of the cluster, has installed the engine and the pack, with the
    scene in it; and the name of another role, which is to serve. The connection is a superuser's, and acts as the owner.
    """
    name = await server.create()
    connection = await asyncpg.connect(server.dsn(name))
    owner, service = f"{name}_owner", f"{name}_service"
    try:
        await connection.execute(f"""
            CREATE ROLE {owner}; CREATE ROLE {service};
            ALTER DATABASE {name} OWNER TO {owner}; ALTER SCHEMA public OWNER TO {owner};
            SET SESSION AUTHORIZATION {owner}
        """)
        async for _ in migrate.up(connection, packs.installable([PACK])):
            pass
        await connection.execute(SCENE)
        yield connection, service
    finally:
        # The database, and with it all that the roles own and were granted, goes first.
        await connection.close()
        await server.drop(name)
        connection = await asyncpg.connect(server.dsn("postgres"))
        await connection.execute(f"DROP ROLE {service}; DROP ROLE {owner}")
        await connection.close()


async def become(connection: asyncpg.Connection, role: str) -> None:
    await connection.execute(f"RESET SESSION AUTHORIZATION; SET SESSION AUTHORIZATION {role}")


async def summary(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """What the health summary holds, asked as a superuser; and whoever asked before is himself again."""
    role = await connection.fetchval("SELECT session_user")
    await connection.execute("RESET SESSION AUTHORIZATION")
    rows = await connection.fetch(
        "SELECT client_name, response_count, meeting_count, open_actions FROM client_health_summary ORDER BY 1"
    )
    await become(connection, role)
    return [tuple(row) for row in rows]


FRESH = [(name, 1, 1, 1) for name in ("Alder", "Amber", "Birch", "Empty", "Nobody's")]


async def test_an_owner_without_privileges_is_not_held_back(plain: tuple[asyncpg.Connection, str]) -> None:
    connection, _ = plain
    assert await connection.fetchval("SELECT current_setting('is_superuser')") == "off"
    await refresh(connection)
    assert await summary(connection) == FRESH
    assert all(row["ok"] for row in await connection.fetch(PACK.read("verify.sql")))
    assert len(await connection.fetch("SELECT FROM nps_clients")) == 5


async def test_the_service_refreshes_every_row_with_the_least_privileges(plain: tuple[asyncpg.Connection, str]) -> None:
    connection, service = plain
    owner = await connection.fetchval("SELECT current_user")
    script = CliRunner().invoke(cli, ["sql", "--role", service])
    assert script.exit_code == 0
    await connection.execute(script.output)
    if connection.get_server_version().major < 17:
        # There a refresh takes ownership: the service becomes a member of the owner.
        await connection.execute(f"RESET SESSION AUTHORIZATION; GRANT {owner} TO {service}")
    await become(connection, service)
    await refresh(connection)
    assert await summary(connection) == FRESH
    if connection.get_server_version().major >= 17:
        with pytest.raises(DENIED):
            await connection.execute("SELECT FROM nps_clients")
    await connection.execute("RESET SESSION AUTHORIZATION")


@pytest.mark.parametrize("grant", ["service_role", "tables"])
async def test_a_service_that_owns_the_summaries_is_refused_or_reads_every_row(
    plain: tuple[asyncpg.Connection, str], grant: str
) -> None:
    """As `least_privilege.sql` proposes before PostgreSQL 17. A summary of nothing, and no error, must not be."""
    connection, service = plain
    owner = await connection.fetchval("SELECT current_user")
    await connection.execute("RESET SESSION AUTHORIZATION")
    await connection.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {service}")
    for view in VIEWS:
        await connection.execute(f"ALTER MATERIALIZED VIEW {view} OWNER TO {service}")
    await become(connection, service)
    with pytest.raises(DENIED):
        await refresh(connection)
    await become(connection, owner)
    if grant == "tables":
        await connection.execute(
            f"GRANT SELECT ON {', '.join(TABLES)}, client_health_summary_live, event_compliance_summary_live TO {service}"
        )
    else:
        await connection.execute(f"RESET SESSION AUTHORIZATION; GRANT service_role TO {service}")
    await become(connection, service)
    await refresh(connection)
    assert await summary(connection) == FRESH
    if grant == "tables":
        assert await connection.execute("SELECT FROM nps_clients") == "SELECT 5"
        with pytest.raises(DENIED):
            await connection.execute("UPDATE nps_clients SET cse = 'me'")
    await connection.execute(f"RESET SESSION AUTHORIZATION; REASSIGN OWNED BY {service} TO CURRENT_USER")


async def test_what_a_host_gives_to_everybody_by_default_is_taken_back(
    server: ServerUnderTest, engine_template: str
) -> None:
    name = await server.create(engine_template)
    connection = await asyncpg.connect(server.dsn(name))
    try:
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            await connection.execute(
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO anon, authenticated, service_role"
            )
        await pack_up(connection)
        failed = [row["check"] for row in await connection.fetch(PACK.read("verify.sql")) if not row["ok"]]
        assert failed == []
        open_to_anon = await connection.fetch(
            "SELECT relname FROM pg_class AS c, aclexplode(c.relacl) AS given WHERE given.grantee = 'anon'::regrole"
            " AND c.relnamespace = 'public'::regnamespace AND c.relname <> '_pogo_migration'"
        )
        assert open_to_anon == []
    finally:
        await connection.close()
        await server.drop(name)


# -- tables that were there before ------------------------------------------------------------------------------------


@pytest.fixture
async def older(server: ServerUnderTest, engine_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A database in which clients and actions were there before the pack, read by an application's own role."""
    name = await server.create(engine_template)
    connection = await asyncpg.connect(server.dsn(name))
    await connection.execute(f"""
        CREATE TABLE nps_clients (
            id serial PRIMARY KEY, client_name text, segment text, cse text, created_at date, updated_at date
        );
        CREATE TABLE actions (id int, "Client" text, "Status" text, "Due_Date" date);
        CREATE ROLE {name}_app;
        GRANT SELECT ON nps_clients, actions TO {name}_app;
        INSERT INTO nps_clients (client_name, cse) VALUES ('Alder', 'Amara'), ('Birch', 'Ben');
        INSERT INTO actions VALUES (1, 'Alder', 'Open', NULL), (2, 'Birch', 'Open', NULL);
    """)
    yield connection
    await connection.close()
    await server.drop(name)
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute(f"DROP ROLE {name}_app")
    await connection.close()


async def failed_checks(connection: asyncpg.Connection) -> list[str]:
    return [row["check"] for row in await connection.fetch(PACK.read("verify.sql")) if not row["ok"]]


async def protected(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT relname FROM pg_class WHERE relrowsecurity")
    return {row["relname"] for row in rows}


async def test_a_table_that_was_there_before_stays_as_open_as_it_was(older: asyncpg.Connection) -> None:
    heard: list[Any] = []
    older.add_log_listener(lambda _, message: heard.append((message.message, message.hint)))
    await pack_up(older)
    assert await protected(older) == set(TABLES) - {"nps_clients", "actions"}
    notices = {message: hint for message, hint in heard if "row-level security" in message}
    assert len(notices) == 2
    for table in ("nps_clients", "actions"):
        hint = notices[
            f"public.{table} is not put under row-level security: it was there before the pack client_health"
        ]
        assert f"SELECT public.client_health_protect('public.{table}');" in hint
    database = await older.fetchval("SELECT current_database()")
    await older.execute(f"SET ROLE {database}_app")
    assert len(await older.fetch("SELECT FROM nps_clients")) == 2
    await older.execute("RESET ROLE")
    assert await failed_checks(older) == []
    await pack_down(older)
    assert await protected(older) == set()
    assert await older.fetchval("SELECT has_table_privilege($1, 'actions', 'SELECT')", f"{database}_app")


async def test_records_are_safe_beside_a_table_of_clients_that_lies_open(older: asyncpg.Connection) -> None:
    await pack_up(older)
    await older.execute("GRANT SELECT ON nps_clients TO authenticated")
    await older.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Alder', 9), ('Birch', 9)")
    async with acting(older, "authenticated", AMARA):
        assert await clients_of(older, "nps_clients") == {"Alder", "Birch"}
        assert await clients_of(older, "nps_responses") == {"Alder"}


async def test_its_owner_may_ask_for_the_policies_and_take_them_off_again(older: asyncpg.Connection) -> None:
    await pack_up(older)
    for _ in range(2):  # it may be run again
        await older.execute("SELECT client_health_protect('nps_clients'), client_health_protect('actions')")
        assert await protected(older) == set(TABLES)
        assert await failed_checks(older) == []
    async with acting(older, "authenticated", AMARA):
        assert await clients_of(older, "nps_clients") == {"Alder"}
        assert await clients_of(older, "actions") == {"Alder"}
    async with acting(older, "authenticated", MANAGER):
        # Its key is drawn from a sequence, which takes the right to use that.
        assert await older.execute("INSERT INTO nps_clients (client_name) VALUES ('New')") == "INSERT 0 1"
    await older.execute("SELECT client_health_unprotect('actions')")
    assert await protected(older) == set(TABLES) - {"actions"}
    await refused(older, "authenticated", MANAGER, "SELECT FROM actions")
    await pack_down(older)
    assert await protected(older) == set()
    assert await older.fetchval("SELECT count(*) FROM pg_policy") == 0
    await refused(older, "authenticated", MANAGER, "SELECT FROM nps_clients")


async def test_policies_of_the_owner_s_own_are_not_added_to(older: asyncpg.Connection) -> None:
    await pack_up(older)
    await older.execute("CREATE POLICY mine ON actions USING (true)")
    await older.execute("ALTER TABLE nps_clients ENABLE ROW LEVEL SECURITY")
    for table in ("actions", "nps_clients"):
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="has row-level security of its own"):
            await older.execute(f"SELECT client_health_protect('{table}')")
        await older.execute(f"SELECT client_health_unprotect('{table}')")
    assert await older.fetchval("SELECT count(*) FROM pg_policy WHERE polname = 'mine'") == 1
    assert "nps_clients" in await protected(older)


@pytest.mark.parametrize("relation", ["pg_class", "client_health_summary", "afresh.change_log", "elsewhere.actions"])
async def test_only_tables_of_the_pack_can_be_protected(older: asyncpg.Connection, relation: str) -> None:
    await pack_up(older)
    await older.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.actions (id int)")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="is none of the tables of the pack"):
        await older.execute(f"SELECT client_health_protect('{relation}')")
    await older.execute(f"SELECT client_health_unprotect('{relation}')")


async def test_a_policy_that_was_added_beside_ours_keeps_the_table_closed_when_ours_go(
    older: asyncpg.Connection,
) -> None:
    await pack_up(older)
    await older.execute("CREATE POLICY mine ON nps_responses USING (true)")
    await older.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Alder', 9)")
    await pack_down(older)
    assert await protected(older) == {"nps_responses"}
    assert [row[0] for row in await older.fetch("SELECT polname FROM pg_policy")] == ["mine"]


async def test_the_roles_outlive_the_pack(older: asyncpg.Connection) -> None:
    await pack_up(older)
    await pack_down(older)
    roles = await older.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role') AND NOT rolcanlogin"
    )
    assert len(roles) == 3
