"""Packs: one application on Afresh each, a folder with `pack.toml`, migrations, sample data and checks.

A pack is named as in `packs = ["client_health"]` for one that comes with Afresh, or by a path (with a slash in it) for a
folder of the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from afresh_notifier.errors import PackError
from afresh_notifier.migrate import Scope, engine_scope
from afresh_notifier.resources import sql_folder
from afresh_notifier.settings import Pack, load_pack
from afresh_notifier.settings_errors import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledPack:
    """A pack and where it is."""

    folder: Path
    settings: Pack

    @property
    def name(self) -> str:
        """The name that its `pack.toml` gives."""
        return self.settings.pack.name

    @property
    def path(self) -> str:
        """What `find` finds it by: absolute, as `Path` takes the `./` off, and a bare name is one of Afresh's own packs."""
        return str(self.folder.absolute())

    @property
    def scope(self) -> Scope:
        """Its migrations."""
        return Scope(name=self.name, folder=self.folder / "migrations")

    def read(self, file: str) -> str:
        """One of its files, by its path in the folder. Raises `PackError`."""
        try:
            return (self.folder / file).read_text(encoding="utf-8")
        except OSError as error:
            raise PackError(f"pack {self.name}: {file} cannot be read: {error.strerror}") from error


def available() -> list[str]:
    """The names of the packs that come with Afresh."""
    return sorted(file.parent.name for file in (sql_folder() / "packs").glob("*/pack.toml"))


def find(name: str) -> InstalledPack:
    """One pack by name or path. Raises `PackError` or `SettingsError`."""
    folder = Path(name) if "/" in name else sql_folder() / "packs" / name
    if not (folder / "pack.toml").is_file():
        known = available()
        raise PackError(
            f"there is no pack {name!r} ({(folder / 'pack.toml').absolute()} does not exist)",
            hint=did_you_mean(name, known)
            or f"known packs: {', '.join(known)}; a pack of your own is named by its path, such as ./packs/mine",
        )
    return InstalledPack(folder=folder, settings=load_pack(folder / "pack.toml"))


def installable(packs: Iterable[InstalledPack]) -> list[Scope]:
    """The engine's migrations, and then these packs'."""
    return [engine_scope(), *(pack.scope for pack in packs)]


def find_all(names: Iterable[str]) -> list[InstalledPack]:
    """These packs and what they require, each once, what is required first. Raises `PackError` or `SettingsError`."""
    found: dict[str, InstalledPack] = {}

    def visit(name: str, trail: tuple[Path, ...]) -> None:
        pack = find(name)
        trail = (*trail, pack.folder.resolve())
        if trail[-1] in trail[:-1]:
            raise PackError(f"packs require each other in a circle: {' → '.join(folder.name for folder in trail)}")
        for required in pack.settings.pack.requires:
            visit(required, trail)
        known = found.setdefault(pack.name, pack)
        if known.folder.resolve() != pack.folder.resolve():
            raise PackError(
                f"two packs are called {pack.name!r}: {known.folder} and {pack.folder}",
                hint="rename one in its pack.toml",
            )

    for name in names:
        visit(name, ())
    return list(found.values())
