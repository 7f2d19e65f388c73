"""`afresh sql`: the DDL, for those who have a migration tool of their own, and the privileges that a login needs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from afresh_notifier import migrate, packs
from afresh_notifier.commands.shared import pack_option, run
from afresh_notifier.resources import sql_folder


@click.command(short_help="Print the DDL.")
@pack_option
@click.option("--down", is_flag=True, help="What takes it away again, in the opposite order.")
@click.option("--role", metavar="NAME", help="Print instead what this role needs to serve, where it owns nothing.")
def sql(names: Sequence[str], down: bool, role: str | None) -> None:
    """Print the DDL that `migrate up` would run: the engine's, or that of the packs named (without what they require).

    For users with a migration tool of their own, and for `afresh sql | psql -v ON_ERROR_STOP=1 -1`. It needs neither
    settings nor a database. What is applied this way is not written down for `afresh migrate`.
    """
    if role is not None:
        if names or down:
            raise click.UsageError("--role goes neither with --pack nor with --down")
        click.echo(privileges(role), nl=False)
        return
    scopes = [packs.find(name).scope for name in names] or [migrate.engine_scope()]
    for scope in reversed(scopes) if down else scopes:
        click.echo(run(migrate.script(scope, down=down)))


def privileges(role: str) -> str:
    """The script that gives ``role`` what the service needs; it is the server that quotes the name as an identifier."""
    if not role or "\0" in role:
        raise click.BadParameter("a role has a name", param_hint="--role")
    script = (sql_folder() / "least_privilege.sql").read_text(encoding="utf-8")
    # With E it is read the same whatever standard_conforming_strings says.
    literal = "E'" + role.replace("\\", "\\\\").replace("'", "''") + "'"
    return script.replace("'NAME'", literal, 1)
