"""Every name loads, says where its files are, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lidcli.config.read import load_files
from lidcli.config.run import read_section
from lidcli.data.registry import DATASETS
from lidcli.data.text_files import TEXT_DATASETS
from lidcli.errors import ConfigError, DataError


@pytest.mark.parametrize("name", DATASETS | TEXT_DATASETS)
def test_every_entry_says_whose_it_is(name: str) -> None:
    info = (DATASETS | TEXT_DATASETS)[name]
    assert info.name == name
    assert info.title
    assert info.licence
    assert any(char.isdigit() for char in info.citation)


def test_every_shipped_data_entry_is_in_the_registry_with_its_kind(repository: Path) -> None:
    entries = load_files([repository / "experiments.yaml"]).data
    for name, info in DATASETS.items():
        assert entries[name]["data"]["kind"] == info.kind


@pytest.mark.parametrize("name", [name for name, info in DATASETS.items() if info.files])
def test_files_that_are_not_here_are_asked_for_by_command(tmp_path, name: str) -> None:
    kind = DATASETS[name].kind
    settings = read_section("data", {"name": name, "kind": kind, "root": str(tmp_path)})
    with pytest.raises(DataError, match=f"is missing; `lid fetch {name}` gets it"):
        settings.build()


@pytest.mark.mirror
def test_sizes_checksums_and_addresses_are_those_of_the_mirror(mirror: Path) -> None:
    manifest = json.loads((mirror / "MANIFEST.json").read_text())
    known = {f["path"]: f for d in manifest["datasets"].values() for f in d["files"]}
    for info in (DATASETS | TEXT_DATASETS).values():
        for file in info.files:
            if file.optional:
                continue
            entry = known[file.path]
            assert (file.size, file.sha256) == (entry["bytes"], entry["sha256"])
            assert [*file.urls, *(archive.url for archive in file.archives)] == entry["urls"]
            assert file.good(mirror / file.path)
            if file.published is not None:
                assert file.published.expected == entry["upstream_md5"]
                assert list(file.published.urls) == entry["urls"]


@pytest.mark.mirror
def test_what_the_mirror_lacks_is_known_by_what_its_manifest_says(mirror: Path) -> None:
    sets = json.loads((mirror / "MANIFEST.json").read_text())["datasets"]
    known = {f["path"]: f for d in sets.values() for f in d.get("not_included", ())}
    for info in (DATASETS | TEXT_DATASETS).values():
        for file in (file for file in info.files if file.optional):
            entry = known[file.path]
            assert file.expected == entry.get("md5", entry["git_blob_sha1"])
            assert [*file.urls, *(archive.url for archive in file.archives)] == entry["urls"]
    (archive,) = TEXT_DATASETS["yahoo"].files[-1].archives
    published = sets["yahoo"]["archive"]
    assert (archive.url, archive.md5) == (published["url"], published["md5"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "minst", "kind": "image"}, "did you mean mnist"),
        ({"name": "digits", "kind": "points"}, "data.kind of digits is image, not points"),
        ({"name": "a", "kind": "points", "path": "a.npz"}, "points takes a .csv file, not a.npz"),
        ({"name": "a", "kind": "image", "path": "a.csv"}, "image takes a .npz file, not a.csv"),
        ({"name": "a", "kind": "sound", "path": "a.wav"}, "data.kind = 'sound' is none of points,"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_section("data", settings).build()
    assert words in str(caught.value)
