"""The command `afresh`, also as `python -m afresh_notifier`."""

from __future__ import annotations

import sys

#: Modules that only the extra `server` brings, and without which there is no command.
_SERVER_ONLY = {
    "asyncpg",
    "click",
    "pogo_core",
    "pogo_migrate",
    "prometheus_client",
    "pydantic_settings",
    "rich",
    "structlog",
    "uvloop",
}


def main() -> None:
    """The console entry point; an application that installed only the client is told how to get the rest."""
    try:
        from afresh_notifier.cli import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_ONLY:
            raise
        sys.stderr.write(
            f"The service is not installed here ({error.name} is missing): "
            "in a clone of the repository, pip install '.[server]'\n",
        )
        sys.exit(1)
    cli(prog_name="afresh")


if __name__ == "__main__":
    main()
