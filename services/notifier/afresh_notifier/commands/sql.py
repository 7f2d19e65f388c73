"""`afresh sql`: the DDL, for those who have a migration tool of their own."""

from __future__ import annotations

from collections.abc import Sequence

import click

from afresh_notifier import migrate, packs
from afresh_notifier.commands.shared import pack_option, run


@click.command(short_help="Print the DDL.")
@pack_option
@click.option("--down", is_flag=True, help="What takes it away again, in the opposite order.")
def sql(names: Sequence[str], down: bool) -> None:
    """Print the DDL that `migrate up` would run: the engine's, or that of the packs named (without what they require).

    For users with a migration tool of their own, and for `afresh sql | psql -v ON_ERROR_STOP=1 -1`. It needs neither
    settings nor a database. What is applied this way is not written down for `afresh migrate`.
    """
    scopes = [packs.find(name).scope for name in names] or [migrate.engine_scope()]
    for scope in reversed(scopes) if down else scopes:
        click.echo(run(migrate.script(scope, down=down)))
