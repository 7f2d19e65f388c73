"""Packs and migrations that a test makes for itself."""

from __future__ import annotations

from pathlib import Path


def migration(folder: Path, name: str, *, up: str, down: str, depends: str = "", transaction: bool = True) -> None:
    """One migration's file."""
    folder.mkdir(parents=True, exist_ok=True)
    header = f"-- The migration {name}\n-- depends: {depends}\n" + ("" if transaction else "-- transaction: false\n")
    (folder / f"{name}.sql").write_text(
        f"{header}\n-- migrate: apply\n\n{up}\n\n-- migrate: rollback\n\n{down}\n", encoding="utf-8"
    )


def pack(folder: Path, name: str, *, requires: tuple[str, ...] = (), more: str = "", verify: str | None = None) -> str:
    """A pack that makes a table called like itself; returns its path."""
    home = folder / name
    wanted = ", ".join(f'"{required}"' for required in requires)
    home.mkdir(parents=True)
    (home / "pack.toml").write_text(
        f'[pack]\nname = "{name}"\ntitle = "{name}"\nrequires = [{wanted}]\n{more}', encoding="utf-8"
    )
    migration(
        home / "migrations",
        f"{name}_0001_table",
        up=f"CREATE TABLE public.{name} (id int PRIMARY KEY);",
        down=f"DROP TABLE public.{name};",
    )
    if verify is not None:
        (home / "verify.sql").write_text(verify, encoding="utf-8")
    return str(home)
