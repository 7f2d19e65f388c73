"""Packs: found by name or by path, what they require first, and clear errors for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from afresh_notifier import packs
from afresh_notifier.errors import PackError, SettingsError
from afresh_notifier.resources import sql_folder
from afresh_notifier.settings import load
from notifier import folders


def test_every_pack_that_comes_with_afresh_can_be_read() -> None:
    names = packs.available()
    assert "client_health" in names
    assert [packs.find(name).name for name in names] == names


def test_a_pack_knows_where_its_files_are() -> None:
    pack = packs.find("client_health")
    assert pack.folder == sql_folder() / "packs" / "client_health"
    assert pack.scope.ledger == "afresh:client_health"
    assert "check" in pack.read("verify.sql")
    with pytest.raises(PackError, match=r"pack client_health: nowhere\.sql cannot be read"):
        pack.read("nowhere.sql")


def test_an_unknown_name_says_which_are_known() -> None:
    with pytest.raises(PackError, match="there is no pack 'client_helth'") as caught:
        packs.find("client_helth")
    assert caught.value.hint == "did you mean 'client_health'?"
    with pytest.raises(PackError) as caught:
        packs.find("crm")
    assert caught.value.hint.startswith("known packs: client_health")


def test_a_path_names_a_pack_of_the_users_own(tmp_path: Path) -> None:
    assert packs.find(folders.pack(tmp_path, "mine")).folder == tmp_path / "mine"
    with pytest.raises(PackError, match="there is no pack"):
        packs.find(str(tmp_path / "nothing"))


def test_a_pack_beside_the_settings_is_found_again_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.pack(tmp_path, "mine")
    monkeypatch.chdir(tmp_path)
    pack = packs.find("./mine")
    assert packs.find(pack.path).name == "mine"


@pytest.mark.parametrize("written", ['["./mine"]', '"mine/"'])
def test_a_path_is_from_the_folder_of_the_file_that_names_it(tmp_path: Path, written: str) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    folders.pack(folder, "mine", requires=("../../first",))
    folders.pack(tmp_path, "first")
    (folder / "afresh.toml").write_text(f"packs = {written}\n")
    found = packs.find_all(load(folder / "afresh.toml").packs)
    assert [pack.folder.resolve() for pack in found] == [tmp_path / "first", folder / "mine"]


def test_a_path_in_the_environment_is_from_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders.pack(tmp_path, "mine")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "afresh.toml").write_text("packs = []\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFRESH_PACKS", "./mine")
    assert [pack.name for pack in packs.find_all(load(Path("etc/afresh.toml")).packs)] == ["mine"]


@pytest.mark.parametrize("written", ["7", "[7]", '"[7"', "{}"])
def test_packs_that_are_no_list_of_names_are_an_error(tmp_path: Path, written: str) -> None:
    (tmp_path / "afresh.toml").write_text(f"packs = {written}\n")
    with pytest.raises(SettingsError, match="packs"):
        load(tmp_path / "afresh.toml")


def test_what_a_pack_requires_is_a_list(tmp_path: Path) -> None:
    home = Path(folders.pack(tmp_path, "mine"))
    (home / "pack.toml").write_text('[pack]\nname = "mine"\ntitle = "mine"\nrequires = "client_health"\n')
    with pytest.raises(SettingsError, match="requires"):
        packs.find(str(home))


def test_a_malformed_pack_is_an_error_of_its_file(tmp_path: Path) -> None:
    home = Path(folders.pack(tmp_path, "mine"))
    (home / "pack.toml").write_text("[pack]\nname = 'mine'", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"pack\.toml: pack\.title: is missing"):
        packs.find(str(home))


def test_what_is_required_comes_first_and_once(tmp_path: Path) -> None:
    base = folders.pack(tmp_path, "base")
    left = folders.pack(tmp_path, "left", requires=(base,))
    right = folders.pack(tmp_path, "right", requires=(base, left))
    assert [pack.name for pack in packs.find_all([right, left, base])] == ["base", "left", "right"]
    assert packs.find_all([]) == []


def test_packs_that_require_each_other_are_refused(tmp_path: Path) -> None:
    one = folders.pack(tmp_path, "one", requires=(str(tmp_path / "two"),))
    folders.pack(tmp_path, "two", requires=(one,))
    with pytest.raises(PackError, match="in a circle"):
        packs.find_all([one])


def test_two_packs_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their migrations would be written down under the same name."""
    one, other = folders.pack(tmp_path / "a", "mine"), folders.pack(tmp_path / "b", "mine")
    assert len(packs.find_all([one, f"{one}/../mine"])) == 1
    with pytest.raises(PackError, match="two packs are called 'mine'"):
        packs.find_all([one, other])
