"""The command `afresh` as a user runs it: in a folder of its own, with an environment that sets nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from afresh_notifier.cli import cli

#: How long a command may take before the test gives it up.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """The environment without whatever would set something, and with ``variables``."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("AFRESH_") and name != "DATABASE_URL"
    }
    return kept | {"COLUMNS": "200"} | variables


async def afresh(*arguments: str, folder: Path, dsn: str | None = None, **variables: str) -> Ended:
    """Run `afresh` with these arguments in ``folder``; ``dsn`` is given as `DATABASE_URL`.

    It runs in a thread with an event loop of its own, which saves a second for each call; what depends on the process
    (signals, an interpreter without some module) is for `afresh_process`.
    """
    if dsn is not None:
        variables["DATABASE_URL"] = dsn
    wanted = environment(**variables)
    changes: dict[str, str | None] = {**dict.fromkeys(os.environ), **wanted}  # None takes a variable away
    with contextlib.chdir(folder):
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments, prog_name="afresh", env=changes)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(code=result.exit_code, out=result.stdout, err=result.stderr)


async def afresh_process(*arguments: str, folder: Path, dsn: str | None = None, **variables: str) -> Ended:
    """The same in a process of its own."""
    if dsn is not None:
        variables["DATABASE_URL"] = dsn
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-m",
        "afresh_notifier",
        *arguments,
        cwd=folder,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ended(code=process.returncode, out=out.decode(), err=err.decode())
