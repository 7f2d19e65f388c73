"""Settings: where they come from, what goes before what, and that each error names file, key and expectation."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_notifier import packs
from afresh_notifier.errors import PackError, SettingsError
from afresh_notifier.named_queries import named_query
from afresh_notifier.settings import Settings, load, load_pack
from afresh_notifier.settings_queries import OWN_PATHS
from afresh_notifier.settings_values import read_origin
from notifier import folders
from support.doors import doors


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AFRESH_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def loaded(text: str) -> Settings:
    Path("afresh.toml").write_text(text, encoding="utf-8")
    return load()


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(text)
    return caught.value.problems


def test_without_a_file_there_are_the_defaults() -> None:
    assert load() == Settings()
    assert load().server.port == 8080


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(SettingsError, match=r"other\.toml: there is no such file") as caught:
        load(Path("other.toml"))
    assert "--config" in caught.value.hint


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().server.port = 1  # type: ignore[misc]


def test_a_whole_file() -> None:
    settings = loaded(
        """
        packs = ["client_health"]
        [database]
        dsn = "postgresql://localhost/x"
        [refresh]
        debounce = "250ms"
        max_wait = 3
        [[tables]]
        name = 'sales."Odd Name"'
        keys = ["Client"]
        patterns = ["clients:{Client}"]
        [[views]]
        name = "summary"
        every = "5m"
        timeout = "1h"
        enabled = false
        """
    )
    assert settings.packs == ("client_health",)
    assert settings.refresh.debounce == 0.25
    assert settings.refresh.max_wait == 3
    assert settings.tables[0].name == 'sales."Odd Name"'
    assert settings.views[0].every == 300
    assert settings.views[0].timeout == 3600
    assert settings.views[0].max_load is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nprot = 1", "afresh.toml: server.prot: unknown key; did you mean 'port'?"),
        ("[sever]\nport = 1", "afresh.toml: sever: unknown key; did you mean 'server'?"),
        ("colour = 1", "afresh.toml: colour: unknown key; known here: capture, chat, database, embedding"),
        (
            "[[views]]\nname = 'a'\nmax_laod = 0.1",
            "afresh.toml: views[0].max_laod: unknown key; did you mean 'max_load'?",
        ),
        ("[[tables]]\nname = 'a'\n[[tables]]\nkeys = []", "afresh.toml: tables[1].name: is missing"),
        ("[server]\nport = 'high'", "afresh.toml: server.port: expected a whole number"),
        ("[server]\nport = 70000", "afresh.toml: server.port: input should be less than or equal to 65535, got 70000"),
        ("server = 3", "afresh.toml: server: expected a section with keys of its own, got 3"),
        ("packs = 3", "afresh.toml: packs: expected a list, got 3"),
        ("packs = [3]", "afresh.toml: packs[0]: expected text in quotes, got 3"),
        ("[[views]]\nname = 'a'\nblocking = 'perhaps'", "afresh.toml: views[0].blocking: "),
        ("[refresh]\nmax_wait = '5 parsecs'", "afresh.toml: refresh.max_wait: expected a duration such as"),
        ("[refresh]\nmax_wait = true", "afresh.toml: refresh.max_wait: expected a duration such as"),
        ("[refresh]\nmax_wait = 0", "afresh.toml: refresh.max_wait: input should be greater than 0, got 0"),
        ("[refresh]\nmax_wait = inf", "afresh.toml: refresh.max_wait: input should be a finite number, got inf"),
        ("[refresh]\nmax_load = 2", "afresh.toml: refresh.max_load: input should be less than or equal to 1, got 2"),
        ("[[tables]]\nname = 'a b'", "afresh.toml: tables[0].name: expected a name as SQL writes it"),
        ("[[tables]]\nname = 'a.b.c'", "afresh.toml: tables[0].name: expected a name as SQL writes it"),
        ("[[tables]]\nname = 'a'\npatterns = ['a:{']", "afresh.toml: tables[0].patterns[0]: expected every brace"),
        ("[[tables]]\nname = 'a'\npatterns = ['']", "afresh.toml: tables[0].patterns[0]: "),
        ("[[views]]\nname = 'a'\npatterns = ['{x}']", "afresh.toml: views[0].patterns[0]: expected some text before"),
        ("port = ", "afresh.toml: is not valid TOML: "),
        (
            "[database]\ndsn = 'x'\npacks = ['client_health']",
            "afresh.toml: database.packs: unknown key; 'packs' belongs at the top of the file, above the first [section]",
        ),
        (
            "[[tables]]\nname = 'a'\npacks = []",
            "afresh.toml: tables[0].packs: unknown key; 'packs' belongs at the top of the file",
        ),
        (
            "[views]\nname = 'a'",
            "afresh.toml: views: expected a list of sections: write [[views]], with two brackets, before each",
        ),
        (
            "[[server]]\nport = 1",
            "afresh.toml: server: expected one section: write [server], with single brackets, once",
        ),
        (
            "[[views]]\nname = 'a'\n[[views]]\nname = 'public.\"a\"'",
            "afresh.toml: views: public.a is named 2 times; write all of it in one section",
        ),
        ("[[tables]]\nname = 'X.A'\n[[tables]]\nname = 'x.a'", "afresh.toml: tables: x.a is named 2 times; "),
        (
            "[refresh]\nmax_wait = '5'",
            "afresh.toml: refresh.max_wait: expected a duration with its unit: write \"5s\" for seconds, got '5'",
        ),
        (
            "[server]\norigins = ['https://a.example/app']",
            "afresh.toml: server.origins[0]: expected an origin such as https://app.example.com, without a path, got",
        ),
        ("[server]\norigins = ['a.example']", "afresh.toml: server.origins[0]: expected an origin such as"),
        ("[server]\norigins = ['localhost:3000']", "afresh.toml: server.origins[0]: expected an origin such as"),
        ("[server]\norigins = ['http://a:b']", "afresh.toml: server.origins[0]: expected an origin such as"),
        ("[server]\norigins = ['http://me@a']", "afresh.toml: server.origins[0]: expected an origin such as"),
        ("[server]\norigins = ['null']", "afresh.toml: server.origins[0]: expected an origin such as"),
        ("[server]\norigins = ['app://a']", "afresh.toml: server.origins[0]: expected an origin such as"),
    ],
)
def test_an_error_names_the_file_the_key_and_what_was_expected(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_all_errors_are_told_at_once() -> None:
    assert len(problems("[server]\nport = 'x'\nhots = 1\n[refresh]\ndebounce = 'x'")) == 3


def test_a_file_that_cannot_be_read_is_an_error_of_settings() -> None:
    Path("afresh.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsError, match=r"afresh\.toml: cannot be read"):
        load()
    with pytest.raises(SettingsError, match="cannot be read"):
        load(Path())


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFRESH_SERVER__PORT", "9090")
    monkeypatch.setenv("AFRESH_REFRESH__MAX_WAIT", "500ms")
    settings = loaded("[server]\nport = 1\nhost = '::1'")
    assert (settings.server.port, settings.server.host, settings.refresh.max_wait) == (9090, "::1", 0.5)


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFRESH_SERVER__PORT", "")
    assert loaded("[server]\nport = 1").server.port == 1


def test_database_url_goes_before_the_file_and_behind_its_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    file = "[database]\ndsn = 'postgresql://file/x'"
    monkeypatch.setenv("DATABASE_URL", "postgresql://url/x")
    assert loaded(file).database.dsn == "postgresql://url/x"
    assert loaded("").database.dsn == "postgresql://url/x"
    monkeypatch.setenv("AFRESH_DATABASE__DSN", "postgresql://variable/x")
    assert loaded(file).database.dsn == "postgresql://variable/x"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://app.example.com/", ("https", "app.example.com", 443)),
        ("HTTPS://App.Example.com", ("https", "app.example.com", 443)),
        ("https://app.example.com:443", ("https", "app.example.com", 443)),
        ("http://localhost:3000", ("http", "localhost", 3000)),
        ("http://[::1]:80/", ("http", "::1", 80)),
    ],
)
def test_an_origin_is_its_scheme_host_and_port_however_it_is_written(written: str, read: tuple[str, str, int]) -> None:
    assert loaded(f"[server]\norigins = ['{written}']").server.origins == (written,)
    assert read_origin(written) == read


def test_names_that_differ_are_not_one_named_twice() -> None:
    names = ["a", '"A"', "x.a", '"x.a"', 'x."a.b"']
    views = loaded("".join(f"[[views]]\nname = '{name}'\n" for name in names)).views
    assert [view.name for view in views] == names


@pytest.mark.parametrize("value", ["one,two", " one , two ,", '["one", "two"]'])
def test_a_list_in_a_variable_is_separated_by_commas_or_json(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AFRESH_PACKS", value)
    assert load().packs == ("one", "two")
    monkeypatch.setenv("AFRESH_SERVER__ORIGINS", "http://a,http://b")
    assert load().server.origins == ("http://a", "http://b")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("AFRESH_SERVER__PORT", "high", "AFRESH_SERVER__PORT: expected a whole number"),
        ("AFRESH_SERVER__PROT", "1", "AFRESH_SERVER__PROT: unknown key; did you mean 'port'?"),
        ("AFRESH_SERVER", "8080", "AFRESH_SERVER: expected a section with keys of its own, got '8080'"),
        ("AFRESH_PACKS", "[x", "AFRESH_PACKS: is not valid JSON"),
        ("AFRESH_PACKS", "[1]", "AFRESH_PACKS: expected text in quotes, got 1"),
        ("AFRESH_TABLES", "[]", "AFRESH_TABLES: expected a list"),
        ("AFRESH_TABLES__0__NAME", "a", "AFRESH_TABLES__0__NAME: expected a list"),
        ("AFRESH_SERVER__PORT__X", "1", "AFRESH_SERVER__PORT__X: expected a whole number"),
        ("AFRESH_SEVER__PORT", "1", "AFRESH_SEVER__PORT: unknown setting; did you mean AFRESH_SERVER__PORT?"),
        ("AFRESH_DATABASE_DSN", "x", "AFRESH_DATABASE_DSN: unknown setting; did you mean AFRESH_DATABASE__DSN?"),
        ("AFRESH_DSN", "x", "AFRESH_DSN: unknown setting; did you mean AFRESH_DATABASE__DSN?"),
        ("AFRESH_PACK", "x", "AFRESH_PACK: unknown setting; did you mean AFRESH_PACKS?"),
        ("AFRESH_REFRESH__MAX_WAIT", "5", 'AFRESH_REFRESH__MAX_WAIT: expected a duration with its unit: write "5s"'),
        ("afresh_colour", "x", "afresh_colour: unknown setting; known here: capture, chat, database"),
    ],
)
def test_an_error_in_a_variable_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    (problem,) = problems("[server]\nhost = '::1'")
    assert problem.startswith(expected)


def test_variables_of_the_test_suite_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFRESH_TEST_POSTGRES", "16")
    assert load() == Settings()


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_durations_are_seconds(count: int, unit: tuple[str, float]) -> None:
    settings = Settings(refresh={"debounce": f"{count}{unit[0]}"})
    assert settings.refresh.debounce == pytest.approx(count * unit[1])


@pytest.mark.parametrize("text", ["-1s", "1 s 2", "1e3s", "s", "", "1w", "0x1s", "½s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Settings(refresh={"debounce": text})


def test_a_pack_is_read_with_the_same_care(tmp_path: Path) -> None:
    file = tmp_path / "pack.toml"
    file.write_text("[pack]\nname = 'Bad Name'\ntitel = 'x'\n[[views]]\nname = 'v'\nevery = 'x'", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_pack(file)
    assert [problem.removeprefix(f"{file}: ").split(":")[0] for problem in caught.value.problems] == [
        "pack.name",
        "pack.title",
        "pack.titel",
        "views[0].every",
    ]


def test_a_variable_is_not_blamed_for_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFRESH_TABLES", "x")
    file = tmp_path / "pack.toml"
    file.write_text("[pack]\nname = 'a'\ntitle = 'x'\n[[tables]]\nnaem = 'v'", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_pack(file)
    assert all(problem.startswith(str(file)) for problem in caught.value.problems)


# Named queries.

QUERY = "[[queries]]\nname = 'q'\nfile = 'q.sql'\n"
OTHER = "[[queries]]\nname = 'other'\nfile = 'other.sql'\n"
PLACE = "[[queries.parameters]]\nname = 'x'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[queries]]\nname = 'q'", "afresh.toml: queries[0].file: is missing"),
        (f"{QUERY}nmae = 'x'", "afresh.toml: queries[0].nmae: unknown key; did you mean 'name'?"),
        ("[[queries]]\nname = 'Q'\nfile = 'x'", "afresh.toml: queries[0].name: "),
        (f"{QUERY}path = 'x'", "afresh.toml: queries[0].path: expected a path such as /api/clients"),
        (f"{QUERY}path = '/a//b'", "afresh.toml: queries[0].path: expected a path such as"),
        (f"{QUERY}path = '/a/x{{y}}'", "afresh.toml: queries[0].path: expected a path such as"),
        (f"{QUERY}path = '/a?b'", "afresh.toml: queries[0].path: expected a path such as"),
        (
            f"{QUERY}path = '/a/{{x}}'",
            "afresh.toml: queries[0]: path has a place for x, which is no parameter; known here: none",
        ),
        (f"{QUERY}path = '/{{x}}/{{x}}'\n{PLACE}", "afresh.toml: queries[0]: path has two places for one parameter"),
        (f"{QUERY}cache_key = 'a:{{y}}'\n{PLACE}", "afresh.toml: queries[0]: cache_key has a place for y, which is no"),
        (f"{QUERY}cache_key = '{{x}}'\n{PLACE}", "afresh.toml: queries[0].cache_key: expected some text before"),
        (f"{QUERY}{PLACE}{PLACE}", "afresh.toml: queries[0]: the parameter x is there 2 times; each is one section"),
        (f"{QUERY}{PLACE}nulable = true", "afresh.toml: queries[0].parameters[0].nulable: unknown key; did you mean"),
        (f"{QUERY}[[queries.parameters]]\nname = '1'", "afresh.toml: queries[0].parameters[0].name: "),
        (f"{QUERY}method = 'PUT'", "afresh.toml: queries[0].method: "),
        (f"{QUERY}ttl = 0", "afresh.toml: queries[0].ttl: input should be greater than 0"),
        (f"{QUERY}max_rows = 0", "afresh.toml: queries[0].max_rows: "),
        (f"{QUERY}{QUERY}", "afresh.toml: queries: q is named 2 times; rename one"),
        (f"{QUERY}path = '/views'", "afresh.toml: queries: q: the path /views is the service's own; choose another"),
        (f"{QUERY}path = '/{{x}}'\n{PLACE}", "afresh.toml: queries: q: the path /{x} is the service's own"),
        (f"{QUERY}path = '/static/x'", "afresh.toml: queries: q: the path /static/x is the service's own"),
        (f"{QUERY}path = '/a'\n{OTHER}path = '/a'", "afresh.toml: queries: q and other both answer GET /a; give one"),
        (
            f"{QUERY}path = '/a/{{x}}'\n{PLACE}{OTHER}path = '/a/b'",
            "afresh.toml: queries: q and other both answer GET /a/{x}, which /a/b means too; give one another path",
        ),
        (f"{QUERY}path = '/a'\n{OTHER}path = '/a.csv'", "afresh.toml: queries: q and other both answer GET /a, which"),
        ("[query]\nconcurrency = 0", "afresh.toml: query.concurrency: "),
        ("[queries]\nname = 'q'", "afresh.toml: queries: expected a list of sections: write [[queries]], with two"),
        (
            "[[query]]\ntimeout = 1",
            "afresh.toml: query: expected one section: write [query], with single brackets, once",
        ),
    ],
)
def test_what_is_wrong_with_a_named_query_is_said(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_queries_whose_paths_differ_or_whose_methods_do() -> None:
    paths = ["/a", "/b", "/a/{x}", "/a/{x}/c", "/a.x"]
    text = "".join(f"[[queries]]\nname = 'q{n}'\nfile = 'q'\npath = '{path}'\n{PLACE}" for n, path in enumerate(paths))
    text += "[[queries]]\nname = 'posted'\nfile = 'q'\npath = '/a'\nmethod = 'POST'\n"
    assert [query.url_path for query in loaded(text).queries] == [*paths, "/a"]


def test_a_query_s_file_is_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    file = tmp_path / "below" / "settings.toml"
    file.write_text(f"{QUERY}{PLACE}", encoding="utf-8")
    (query,) = load(file).queries
    assert Path(query.file) == tmp_path / "below" / "q.sql"
    assert query.url_path == "/api/queries/q"
    assert query.template.text == "q:{x}"


def test_queries_of_packs_and_of_the_settings_are_held_against_one_another(tmp_path: Path) -> None:
    one = folders.pack(tmp_path, "one", more=f"{QUERY}path = '/a'\n")
    two = folders.pack(tmp_path, "two", more=f"{OTHER}path = '/a'\n")
    for home in (one, two):
        for name in ("q", "other"):
            (Path(home) / f"{name}.sql").write_text("SELECT 1 AS x;\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="q and other both answer GET /a"):
        named_query.collect(Settings(), packs.find_all([one, two]))
    with pytest.raises(PackError, match="two queries are called 'q': in pack one and in the settings"):
        named_query.collect(loaded(QUERY), packs.find_all([one]))
    with pytest.raises(SettingsError, match=r"query q: .*q\.sql cannot be read: No such file"):
        named_query.collect(loaded(QUERY), [])
    (query,) = named_query.collect(Settings(query={"timeout": "7s"}), packs.find_all([one]))
    assert (query.sql, query.source, query.timeout, query.max_rows) == ("SELECT 1 AS x", "one", 7.0, 10_000)


def test_the_paths_that_are_our_own_are_those_that_there_are() -> None:
    async def routes() -> set[str]:
        async with doors() as open_doors:
            resources = open_doors.api.application().router.resources()
            return {resource.canonical for resource in resources}

    assert asyncio.run(routes()) == set(OWN_PATHS)


def test_what_tells_a_view_s_next_change_is_read_with_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "afresh.toml"
    file.write_text('[[views]]\nname = "now"\nnext_change = "sql/next.sql"\n')
    with pytest.raises(SettingsError, match=r"view now: .*sql/next\.sql cannot be read: No such file") as caught:
        load(file)
    assert len(caught.value.problems) == 1
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql/next.sql").write_text("SELECT now();\n")
    assert load(file).views[0].next_change == "SELECT now()"


@pytest.mark.parametrize(
    "line", [r'key = "sec\nret"', 'key = "sécret"', 'url = "https://me:secret@example.com/v1"\nmodel = "m"']
)
def test_keys_that_cannot_be_sent_or_would_be_shown_are_refused_and_not_repeated(line: str) -> None:
    (problem,) = problems(f"[chat]\n{line}")
    assert problem.startswith("afresh.toml: chat.")
    assert "expected" in problem
    assert "ret" not in problem


def test_the_line_break_at_the_end_of_a_key_is_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFRESH_EMBEDDING__KEY", "secret\n")
    key = load().embedding.key
    assert key is not None
    assert key.get_secret_value() == "secret"
