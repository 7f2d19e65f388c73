"""What is built and installed is whole: both packages, the SQL, the dashboard, the command and the licence.

The sdist and the wheel are built with the backend that is installed here, so that nothing is fetched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "afresh_notifier": ROOT / "services/notifier/afresh_notifier",
    "afresh_cache": ROOT / "services/cache/afresh_cache",
}

#: Run in a fresh interpreter: everything in `afresh_cache`, where what is named in argv cannot be imported.
IMPORT_THE_CACHE_ALONE = """
import importlib, json, pkgutil, sys
from importlib.abc import MetaPathFinder

target, blocked = sys.argv[1], set(json.loads(sys.argv[2]))

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, target)
for name in blocked:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported in spite of all: this shows nothing")
import afresh_cache
seen = [afresh_cache.__name__]
for module in pkgutil.walk_packages(afresh_cache.__path__, "afresh_cache."):
    importlib.import_module(module.name)
    seen.append(module.name)
print(json.dumps({"file": afresh_cache.__file__, "modules": seen}))
"""

#: Run in a fresh interpreter: where an installed Afresh finds its files, and what its command is.
LOOK_AROUND = """
import importlib.metadata, json, sys

target = sys.argv[1]
sys.path.insert(0, target)
from afresh_notifier import resources
(distribution,) = importlib.metadata.distributions(name="afresh", path=[target])
(script,) = distribution.entry_points.select(group="console_scripts")
print(json.dumps({
    "file": resources.__file__,
    "sql": str(resources.sql_folder()),
    "web": str(resources.web_folder()),
    "query": resources.query("migrate_lock"),
    "command": script.name,
    "callable": callable(script.load()),
}))
"""


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build ``source`` as ``sdist`` or ``wheel``; returns the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, timeout=120, capture_output=True)
    (built,) = folder.iterdir()
    return built


def sources(folder: Path) -> set[str]:
    """The files below a folder of the checkout that are worth shipping, relative to it."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    archive = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def content(wheel: Path) -> dict[str, bytes]:
    """What the wheel holds."""
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def metadata(content: dict[str, bytes]) -> Message:
    """What the wheel says of itself."""
    (name,) = [name for name in content if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(content[name].decode())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has put the wheel, and nothing that it depends on."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, timeout=120, capture_output=True)
    return target


def run(script: str, *arguments: str, folder: Path) -> dict[str, Any]:
    """Run a script in an interpreter of its own, away from the checkout; returns what it printed."""
    command = [sys.executable, "-I", "-c", script, *arguments]
    done = subprocess.run(command, cwd=folder, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


@pytest.mark.parametrize(
    ("source", "place"),
    [
        *((folder, name) for name, folder in PACKAGES.items()),
        (ROOT / "sql", "afresh_notifier/sql"),
        (ROOT / "web", "afresh_notifier/web"),
    ],
    ids=["afresh_notifier", "afresh_cache", "sql", "web"],
)
def test_wheel_holds_every_file(content: dict[str, bytes], source: Path, place: str) -> None:
    files = sources(source)
    assert files
    for file in files:
        assert content.get(f"{place}/{file}") == (source / file).read_bytes(), file


def test_wheel_holds_what_is_asked_for_by_name(content: dict[str, bytes]) -> None:
    names = set(content)
    assert {"afresh_notifier/py.typed", "afresh_cache/py.typed", "afresh_notifier/__main__.py"} <= names
    assert "afresh_notifier/queries/migrate_lock.sql" in names
    assert "afresh_notifier/sql/packs/client_health/pack.toml" in names
    assert {f"afresh_notifier/web/{name}" for name in ("index.html", "dashboard.js", "afresh.js")} <= names
    assert any(name.startswith("afresh_notifier/sql/triggers/") for name in names)


def test_wheel_holds_nothing_else(content: dict[str, bytes]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in content} == {*PACKAGES, "afresh"}
    assert not [name for name in content if "__pycache__" in name or name.endswith(".pyc")]


def test_wheel_carries_the_licence(content: dict[str, bytes], metadata: Message) -> None:
    (licence,) = [name for name in content if name.endswith(".dist-info/licenses/LICENSE")]
    text = content[licence].decode()
    assert text == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert metadata["License-Expression"] == "Apache-2.0"


def test_wheel_says_what_it_is_and_needs(content: dict[str, bytes], metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Name"] == "afresh"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    (entry_points,) = [content[name] for name in content if name.endswith(".dist-info/entry_points.txt")]
    assert entry_points.decode().split() == ["[console_scripts]", "afresh", "=", *project["scripts"].values()]


def test_wheel_is_the_same_when_built_from_the_sdist(sdist: Path, content: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(build(sdist, "wheel", tmp_path)) as opened:
        assert set(opened.namelist()) == set(content)


def test_sdist_holds_no_more_than_it_should(sdist: Path) -> None:
    expected = {"services", "sql", "web", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert {path.name for path in sdist.iterdir()} == expected | {"PKG-INFO", ".gitignore"}


def test_cache_is_imported_without_the_service_and_what_it_needs(installed: Path, metadata: Message) -> None:
    server = {
        requirement.partition(";")[0].strip().partition("<")[0].partition(">")[0].partition("[")[0]
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra == 'server'" in requirement
    }
    assert {"asyncpg", "click", "pogo-migrate"} <= server
    modules = {
        module
        for module, distributions in packages_distributions().items()
        if {distribution.replace("_", "-") for distribution in distributions} & server
    }
    assert {"asyncpg", "click", "pydantic_settings"} <= modules
    said = run(
        IMPORT_THE_CACHE_ALONE, str(installed), json.dumps([*sorted(modules), "afresh_notifier"]), folder=installed
    )
    assert str(said["file"]).startswith(str(installed))
    expected = {f"afresh_cache.{path.stem}" for path in PACKAGES["afresh_cache"].glob("*.py")}
    assert set(said["modules"]) == expected - {"afresh_cache.__init__"} | {"afresh_cache"}


def test_installed_afresh_finds_its_files_and_its_command(installed: Path) -> None:
    said = run(LOOK_AROUND, str(installed), folder=installed)
    assert str(said["file"]).startswith(str(installed))
    assert said["sql"] == str(installed / "afresh_notifier/sql")
    assert said["web"] == str(installed / "afresh_notifier/web")
    assert "pg_try_advisory_lock" in str(said["query"])
    assert said["command"] == "afresh"
    assert said["callable"] is True
