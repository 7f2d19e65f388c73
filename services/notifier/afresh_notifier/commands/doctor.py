"""`afresh doctor`: looks for what will bite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import click
import orjson
from rich.text import Text

from afresh_notifier import doctor as checks
from afresh_notifier.commands.shared import Invocation, console, counted, dsn_option, pass_invocation, run
from afresh_notifier.doctor import Finding, Level

_STYLES: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command(short_help="Look for what will bite.")
@dsn_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@pass_invocation
@click.pass_context
def doctor(ctx: click.Context, invocation: Invocation, dsn: str | None, as_json: bool) -> None:
    """Look for what will bite, and say what to do about it; exit 1 if there is a problem (not for warnings)."""
    findings = run(checks.examine(invocation.settings, invocation.database(dsn), invocation.packs()))
    if as_json:
        click.echo(orjson.dumps([asdict(finding) for finding in findings], option=orjson.OPT_INDENT_2).decode())
    else:
        _print(findings)
    if any(finding.level == "problem" for finding in findings):
        ctx.exit(1)


def _print(findings: Sequence[Finding]) -> None:
    screen = console()
    for finding in findings:
        screen.print(Text.assemble((f"{finding.level:8}", _STYLES[finding.level]), finding.about, ": ", finding.what))
        for line in finding.to_do.splitlines():
            click.echo(f"          {line}")
    count = Counter(finding.level for finding in findings)
    screen.print(f"{counted(count['problem'], 'problem')}, {counted(count['warning'], 'warning')}, {count['ok']} ok")
