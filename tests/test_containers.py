"""The Dockerfile and docker-compose.yml say what Docker, the command `afresh` and its settings really take.

No container engine is needed: the files are read, checked against the Compose specification's fields and against each
other, and what can be run of them (the health check, the parsing of commands and settings) is run.
"""

from __future__ import annotations

import asyncio
import copy
import fnmatch
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import jsonschema
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from afresh_notifier.cli import cli
from afresh_notifier.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "services/notifier/Dockerfile"

INSTRUCTIONS = {
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
}


# --- reading the two files ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: its name, its ``--flags`` in order, and the rest of it."""

    name: str
    flags: tuple[tuple[str, str], ...]
    rest: str

    @property
    def argv(self) -> list[str]:
        """The rest in exec form; fails the test where it is in shell form."""
        assert self.rest.startswith("["), f"{self.name} is not in exec form: {self.rest}"
        argv = json.loads(self.rest)
        assert isinstance(argv, list)
        assert all(isinstance(argument, str) for argument in argv)
        return argv


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one FROM begins."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Every instruction called ``name``."""
        return [instruction for instruction in self.instructions if instruction.name == name]

    def one(self, name: str) -> Instruction:
        """The only instruction called ``name``."""
        (found,) = self.all(name)
        return found

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [pair.partition("=") for each in self.all("ENV") for pair in shlex.split(each.rest)]
        return {name: value for name, _, value in pairs}


def parse_dockerfile(text: str) -> tuple[list[Instruction], list[Stage]]:
    """The instructions before the first FROM, and the stages."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    before: list[Instruction] = []
    stages: list[Stage] = []
    for logical in re.split(r"\n(?!\x00)", re.sub(r"\\\n", "\\\n\x00", "\n".join(lines))):
        name, _, rest = logical.replace("\\\n\x00", " ").strip().partition(" ")
        flags = []
        while flag := re.match(r"\s*--([a-z-]+)(?:=(\S+))?\s+", rest):
            flags.append((flag[1], flag[2] or ""))
            rest = rest[flag.end() :]
        instruction = Instruction(name=name, flags=tuple(flags), rest=rest.strip())
        if name == "FROM":
            base, _, alias = instruction.rest.partition(" AS ")
            stages.append(Stage(base=base, name=alias or None))
        else:
            (stages[-1].instructions if stages else before).append(instruction)
    return before, stages


def interpolate(value: Any) -> Any:
    """``value`` with ``${NAME:-default}`` replaced by the default and ``$$`` by ``$``, as Compose does it."""
    if isinstance(value, dict):
        return {key: interpolate(each) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each) for each in value]
    if not isinstance(value, str):
        return value
    return re.sub(
        r"\$(?:(\$)|\{[A-Z_]+:-([^}]*)\}|)",
        lambda found: found[1] or (found[2] if found[2] is not None else pytest.fail(f"no default: {value}")),
        value,
    )


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    """The Dockerfile's."""
    return parse_dockerfile(DOCKERFILE.read_text(encoding="utf-8"))[1]


@pytest.fixture(scope="module")
def image(stages: list[Stage]) -> Stage:
    """The stage that becomes the image."""
    return stages[-1]


@pytest.fixture(scope="module")
def raw_compose() -> dict[str, Any]:
    """docker-compose.yml as it is written."""
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def compose(raw_compose: dict[str, Any]) -> dict[str, Any]:
    """docker-compose.yml as Compose reads it in an empty environment."""
    document = interpolate(raw_compose)
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml."""
    found = compose["services"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The Compose specification's fields."""
    document = yaml.safe_load((ROOT / "tests/compose_schema.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    jsonschema.Draft202012Validator.check_schema(document)
    return document


def is_ours(service: Mapping[str, Any]) -> bool:
    """Whether a service runs the image of our Dockerfile."""
    return "build" in service


def notifiers(services: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The services that run ``afresh serve``, the image's own command."""
    return {name: service for name, service in services.items() if is_ours(service) and "command" not in service}


# --- the Dockerfile ----------------------------------------------------------------------------------------------------


def test_dockerfile_has_known_instructions_only() -> None:
    before, stages = parse_dockerfile(DOCKERFILE.read_text(encoding="utf-8"))
    assert {each.name for each in before} <= {"ARG"}
    assert stages
    unknown = {each.name for stage in stages for each in stage.instructions} - INSTRUCTIONS
    assert not unknown


def test_dockerfile_parser_sees_flags_continuations_and_stages() -> None:
    before, stages = parse_dockerfile(
        "# syntax=x\nARG A=1\nFROM one AS first\nRUN --mount=type=bind,from=x a && \\\n  # inside\n  b\nFROM two\n"
        'CMD ["c"]\n'
    )
    assert [each.name for each in before] == ["ARG"]
    assert [(stage.base, stage.name) for stage in stages] == [("one", "first"), ("two", None)]
    run = stages[0].one("RUN")
    assert run.flags == (("mount", "type=bind,from=x"),)
    assert run.rest.split() == ["a", "&&", "b"]
    assert stages[1].one("CMD").argv == ["c"]


def test_dockerfile_builds_in_one_stage_and_runs_in_another(stages: list[Stage]) -> None:
    assert len(stages) >= 2
    assert stages[-1].name is None
    named = {stage.name for stage in stages[:-1]}
    used = set()
    for stage in stages:
        for instruction in stage.instructions:
            for flag, value in instruction.flags:
                if flag == "from":
                    used.add(value)
                if flag == "mount":
                    used |= {option.removeprefix("from=") for option in value.split(",") if option.startswith("from=")}
    assert used == named, "every stage has a name and is used, and what is used is a stage"


def test_dockerfile_uses_slim_bases_of_a_python_that_we_support(stages: list[Stage]) -> None:
    before, _ = parse_dockerfile(DOCKERFILE.read_text(encoding="utf-8"))
    arguments = dict(each.rest.split("=", 1) for each in before)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Programming Language :: Python :: {arguments['PYTHON_VERSION']}" in project["classifiers"]
    assert {stage.base for stage in stages} == {"python:${PYTHON_VERSION}-slim"}


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path (or a folder that holds it) from the builder: the last pattern counts."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    answer = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            pattern = line.strip().removeprefix("!")
            if any(fnmatch.fnmatchcase(prefix, pattern.removeprefix("**/")) for prefix in prefixes) or (
                pattern.startswith("**/") and any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
            ):
                answer = not line.startswith("!")
    return answer


def copied(stages: Sequence[Stage]) -> set[str]:
    """What COPY takes from the checkout."""
    return {
        source
        for stage in stages
        for each in stage.all("COPY")
        if "from" not in dict(each.flags)
        for source in each.rest.split()[:-1]
    }


def test_what_the_image_copies_is_in_the_checkout_and_reaches_the_builder(stages: list[Stage]) -> None:
    sources = copied(stages)
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), f"{source} is kept away by .dockerignore"


def test_image_gets_all_that_the_wheel_is_made_of(stages: list[Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {*wheel["packages"], *wheel["force-include"]}
    sources = copied(stages)
    for path in needed:
        assert any(path == source or path.startswith(f"{source}/") for source in sources), path


@pytest.mark.parametrize("path", [".git", ".env", ".venv", "afresh.toml", "tests/conftest.py", "sql/__pycache__/x.pyc"])
def test_what_the_image_does_not_need_stays_out(path: str) -> None:
    assert ignored(path)


def test_image_installs_an_extra_that_exists(image: Stage) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    installed = [re.findall(r"pip install [^&]*\[(\w+)\]", each.rest) for each in image.all("RUN")]
    assert [extra for found in installed for extra in found] == ["server"]
    assert "server" in extras


def test_image_runs_as_nobody_in_particular(image: Stage) -> None:
    order = [each.name for each in image.instructions]
    user = image.one("USER").rest
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "by number, so that an orchestrator can see that it is not root"
    assert f"--uid {user.split(':')[0]}" in " ".join(each.rest for each in image.all("RUN"))
    assert order.index("USER") < min(order.index("ENTRYPOINT"), order.index("CMD"), order.index("HEALTHCHECK"))
    assert "RUN" not in order[order.index("USER") :]


def test_image_starts_the_service_and_can_be_stopped(image: Stage) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert image.one("ENTRYPOINT").argv == ["afresh"]
    assert set(image.one("ENTRYPOINT").argv) <= set(scripts)
    assert image.one("CMD").argv == ["serve"]
    assert image.one("STOPSIGNAL").rest == "SIGTERM"
    assert image.one("EXPOSE").rest == image.environment()["AFRESH_SERVER__PORT"]


def health_check(image: Stage, port: int) -> int:
    """Run the image's health check with this Python, against a port of this machine; its exit status."""
    health = image.one("HEALTHCHECK")
    keyword, _, command = health.rest.partition(" ")
    assert keyword == "CMD"
    argv = Instruction(name="CMD", flags=(), rest=command).argv
    assert argv[0] == "python", "the slim image has Python, and neither curl nor wget"
    environment = image.environment() | {"AFRESH_SERVER__PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, *argv[1:]], env=environment, capture_output=True, timeout=60, check=False)
    return done.returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
async def test_health_check_tells_alive_from_not(image: Stage, status: int, healthy: bool) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    async with TestServer(application) as server:
        assert server.port is not None
        code = await asyncio.to_thread(health_check, image, server.port)
    assert asked == ["/healthz"]
    assert (code == 0) is healthy


def test_health_check_fails_where_nobody_listens(image: Stage) -> None:
    with socket.socket() as taken:  # bound, but not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        assert health_check(image, taken.getsockname()[1]) != 0


# --- docker-compose.yml ------------------------------------------------------------------------------------------------


def test_compose_file_uses_the_specification_s_fields(compose: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema).validate(compose)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servces",), {}),
        (("services", "proxy", "health_check"), {}),
        (("services", "proxy", "restart"), "sometimes"),
        (("services", "proxy", "stop_grace_period"), "15"),
        (("services", "proxy", "mem_limit"), "much"),
        (("services", "proxy", "healthcheck", "every"), "5s"),
        (("services", "proxy", "healthcheck", "test"), ["wget", "-q"]),
        (("services", "proxy", "depends_on", "notifier-1", "condition"), "service_ready"),
        (("services", "proxy", "environment"), {"BAD-NAME": "x"}),
        (("services", "migrate", "build", "file"), "Dockerfile"),
        (("services", "lost"), {"restart": "no"}),
        (("configs", "caddyfile", "file"), "Caddyfile"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_schema_refuses_what_compose_would_refuse(
    compose: dict[str, Any], schema: dict[str, Any], path: tuple[str, ...], value: Any
) -> None:
    broken = copy.deepcopy(compose)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(broken)


def test_compose_refers_to_what_is_there(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        named = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert {volume for volume in named if not volume.startswith((".", "/"))} <= set(compose["volumes"]), name
        assert {each["source"] for each in service.get("configs", [])} <= set(compose["configs"]), name
        if is_ours(service):
            context = ROOT / service["build"]["context"]
            assert context == ROOT, "the Dockerfile copies from the checkout's root"
            assert context / service["build"]["dockerfile"] == DOCKERFILE


def checks_health(service: Mapping[str, Any]) -> bool:
    """Whether a service has a health check, its own or that of our image."""
    own = service.get("healthcheck", {})
    return not own.get("disable") and ("test" in own or is_ours(service))


def test_every_lasting_service_has_a_health_check_and_comes_back(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if service["restart"] != "no":
            assert checks_health(service), name
            assert service["restart"] == "unless-stopped", name
        assert "mem_limit" in service, name


def test_waiting_is_for_what_can_come_true(services: dict[str, dict[str, Any]]) -> None:
    waits = [(name, *wait) for name, service in services.items() for wait in service.get("depends_on", {}).items()]
    assert waits
    for name, other, wait in waits:
        if wait["condition"] == "service_healthy":
            assert checks_health(services[other]), (name, other)
        elif wait["condition"] == "service_completed_successfully":
            assert services[other]["restart"] == "no", (name, other)


def test_two_instances_start_after_the_migrations(services: dict[str, dict[str, Any]]) -> None:
    found = notifiers(services)
    assert set(found) == {"notifier-1", "notifier-2"}
    for service in found.values():
        assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
        assert "ports" not in service, "the proxy is the one address"
    assert services["migrate"]["command"] == ["migrate", "up"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_database_address_fits_the_database(services: dict[str, dict[str, Any]]) -> None:
    database = services["postgres"]["environment"]
    for name, service in services.items():
        if is_ours(service):
            address = urlsplit(service["environment"]["AFRESH_DATABASE__DSN"])
            assert address.hostname == "postgres", name
            assert address.username == database["POSTGRES_USER"], name
            assert address.username != "afresh", "its tables would land in the engine's schema"
            assert address.path == f"/{database['POSTGRES_DB']}", name
            assert service["environment"]["PGPASSWORD"] == database["POSTGRES_PASSWORD"], name


def test_nothing_is_published_beyond_this_machine(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"proxy": ["127.0.0.1:8080:8080"]}


def test_every_variable_has_a_default_and_is_explained(raw_compose: dict[str, Any]) -> None:
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    header = text[: text.index("\nname:")]
    used = set(re.findall(r"(?<!\$)\$\{?([A-Za-z_]+)", json.dumps(raw_compose)))
    assert used == {"POSTGRES_PASSWORD", "HTTP_PORT"}
    for name in used:
        assert re.search(rf"^#   {name} ", header, re.MULTILINE), name
    interpolate(raw_compose)


def test_files_that_the_compose_file_speaks_of_are_there() -> None:
    header = [line for line in COMPOSE_FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    named = re.findall(r"(?:sql|services)/[\w./-]+", "\n".join(header))
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path


def test_proxy_knows_every_instance(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    (mounted,) = services["proxy"]["configs"]
    assert mounted["target"] == "/etc/caddy/Caddyfile", "where the image looks for it"
    content = compose["configs"][mounted["source"]]["content"]
    assert content.count("{") == content.count("}")
    upstreams = re.search(r"^\s*reverse_proxy (.+) \{$", content, re.MULTILINE)
    assert upstreams
    expected = {f"{name}:{each['environment']['AFRESH_SERVER__PORT']}" for name, each in notifiers(services).items()}
    assert set(upstreams[1].split()) == expected
    options = dict(re.findall(r"^ {4}(\w+) (\S+)$", content, re.MULTILINE))
    assert options["lb_policy"] == "ip_hash"
    assert options["health_uri"] == "/healthz"
    (published,) = services["proxy"]["ports"]
    assert re.search(rf"^:{published.split(':')[-1]} \{{$", content, re.MULTILINE), "it listens where it is published"
    assert f"http://127.0.0.1:{published.split(':')[-1]}/healthz" in services["proxy"]["healthcheck"]["test"]


def test_instances_are_given_time_to_stop(services: dict[str, dict[str, Any]], settings: Settings) -> None:
    for service in notifiers(services).values():
        grace = re.fullmatch(r"(\d+)s", service["stop_grace_period"])
        assert grace
        assert int(grace[1]) > settings.server.shutdown_timeout


# --- what the command and the settings take ----------------------------------------------------------------------------


def commands(image: Stage, services: Mapping[str, dict[str, Any]]) -> Iterator[list[str]]:
    """Every command line of ours in the two files, without the word ``afresh``."""
    yield image.one("CMD").argv
    for service in services.values():
        if is_ours(service):
            assert "entrypoint" not in service
            yield service.get("command", image.one("CMD").argv)


def take(arguments: Sequence[str]) -> None:
    """Have click parse a command line down to its last command, and run nothing. Raises `click.UsageError`."""
    command: click.Command | None = cli
    name: str | None = "afresh"
    rest, context = list(arguments), None
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context, info_name=name)
        if not rest:
            raise click.UsageError(f"{name}: a command is missing", context)
        name, command, rest = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, rest, parent=context)


def test_commands_are_commands_of_afresh(image: Stage, services: dict[str, dict[str, Any]]) -> None:
    found = list(commands(image, services))
    assert ["serve"] in found
    assert ["migrate", "up"] in found
    for arguments in found:
        take(arguments)


@pytest.mark.parametrize("arguments", [["served"], ["migrate", "upwards"], ["migrate"], ["serve", "--no-such-option"]])
def test_a_wrong_command_would_be_noticed(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        take(arguments)


def settings_of(image: Stage, service: Mapping[str, Any]) -> dict[str, str]:
    """The AFRESH_… variables that a container of ours sees."""
    environment = image.environment() | {key: str(value) for key, value in service["environment"].items()}
    return {key: value for key, value in environment.items() if key.startswith("AFRESH_")}


def is_setting(variable: str) -> bool:
    """Whether the settings have the key that a variable names."""
    model: Any = Settings
    for part in variable.removeprefix("AFRESH_").lower().split("__"):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return False
        model = fields[part].annotation
    return True


def test_variables_are_settings(image: Stage, services: dict[str, dict[str, Any]]) -> None:
    ours = [service for service in services.values() if is_ours(service)]
    assert len(ours) == 3
    for service in ours:
        for variable in settings_of(image, service):
            assert is_setting(variable), variable
    assert not is_setting("AFRESH_SERVER__PORTS")
    assert not is_setting("AFRESH_SERVER__PORT__NUMBER")


@pytest.fixture
def settings(image: Stage, services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as an instance in a container finds them."""
    for variable in [name for name in os.environ if name.startswith("AFRESH_")]:
        monkeypatch.delenv(variable)
    for variable, value in settings_of(image, services["notifier-1"]).items():
        monkeypatch.setenv(variable, value)
    return Settings()


def test_values_are_taken_and_mean_what_they_should(settings: Settings) -> None:
    assert settings.packs == ("client_health",)
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", 8080)
    assert settings.database.dsn == "postgresql://shop@postgres:5432/shop"


def test_packs_of_the_compose_file_are_there(settings: Settings) -> None:
    for pack in settings.packs:
        assert (ROOT / "sql/packs" / pack / "pack.toml").is_file(), pack
