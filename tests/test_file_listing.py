"""Which files readers find below a folder, and which file a name in an annotation means."""

import logging
import os
import unicodedata
from pathlib import Path

import pytest

from mbvision.data.file_listing import (
    NamedFiles,
    find_named,
    find_stems,
    leads_inside,
    list_files,
    list_folders,
    natural_key,
)
from mbvision.errors import DataError

KINDS = (".jpg", ".png")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_files_are_listed_below_the_folder_in_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "10.jpg", "2.JPG", "1.jpg", "a/11.png", "a/9.png", "a/b/1.Png", "010.jpg", "a-1.jpg")
    names = ("1.jpg", "2.JPG", "010.jpg", "10.jpg", "a/9.png", "a/11.png", "a/b/1.Png", "a-1.jpg")
    assert list_files(tmp_path, KINDS).names == names
    assert list_files(tmp_path, KINDS, deep=False).names == ("1.jpg", "2.JPG", "010.jpg", "10.jpg", "a-1.jpg")
    assert sorted(["٣.png", "³.png", "b.png", ""], key=natural_key) == ["", "b.png", "³.png", "٣.png"]  # no number


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "a.jpg", "._a.jpg", ".DS_Store", "__MACOSX/._b.jpg", ".ipynb_checkpoints/a.jpg", "Thumbs.db")
    make(tmp_path, "notes.txt", "b.heic", "c.HEIC", "d.jxl", "sub/desktop.ini")
    listing = list_files(tmp_path, KINDS)
    assert listing.names == ("a.jpg",)
    counts = {reason.partition(",")[0] + reason[-12:]: len(names) for reason, names in listing.passed_over.items()}
    assert sorted(counts.values()) == [1, 1, 2, 6]
    with caplog.at_level(logging.WARNING):
        listing.warn_of_passed_over()
        list_files(make(tmp_path / "clean", "a.jpg"), KINDS).warn_of_passed_over()
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}: passed over: ")
    assert "1 files of other kinds (notes.txt); 6 hidden or system files (.DS_Store, ._a.jpg, " in message
    assert "1 images of a kind that is not read, JPEG XL: convert it with `djxl IN.jxl OUT.png` (d.jxl)" in message
    assert "2 images of a kind that is not read, HEIC: convert it with" in message


def test_links_are_followed_but_for_those_that_lead_back(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", "1.jpg", "deep/2.jpg")
    folder = make(tmp_path / "set", "a/0.jpg")
    (folder / "a" / "linked").symlink_to(outside)
    (folder / "image.jpg").symlink_to(outside / "1.jpg")
    (folder / "a" / "loop").symlink_to(folder)
    listing = list_files(folder, KINDS)
    assert listing.names == ("a/0.jpg", "a/linked/1.jpg", "a/linked/deep/2.jpg", "image.jpg")
    assert listing.passed_over == {"links to a folder that they lie in": ("a/loop",)}
    assert list_folders(folder / "a") == ["linked", "loop"]


def test_what_is_no_file_is_left_to_the_reading_to_refuse(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    assert list_files(tmp_path, KINDS).names == ("broken.jpg", "pipe.jpg")
    with pytest.raises(DataError, match="none: the folder cannot be listed: No such file"):
        list_files(tmp_path / "none", KINDS)


def test_stems_are_paths_without_suffix_in_composed_form(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é.png")
    by_stem = list_files(make(tmp_path, "a.b/c.d.png", decomposed), KINDS).by_stem()
    assert by_stem == {"a.b/c.d": "a.b/c.d.png", "é": decomposed}
    with pytest.raises(DataError, match=r"\.png, é\.jpg have the same name but for the suffix; remove one"):
        list_files(make(tmp_path, "é.jpg"), KINDS).by_stem()


def test_names_mean_files_that_other_tools_spell_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    decomposed = unicodedata.normalize("NFD", "é/é.JPG")
    make(tmp_path, "a.png", "sub/my image.png", decomposed, "100%25.png", "100%.png")
    written = ["a.png", "./a.png", "sub\\my image.png", "sub/my%20image.png", "é/é.jpg", "100%25.png", "sub/none.png"]
    with caplog.at_level(logging.WARNING):
        files = find_named(tmp_path, written)
    spaced = "sub/my image.png"
    assert files == ["a.png", "./a.png", spaced, spaced, decomposed, "100%25.png", "sub/none.png"]
    assert "3 of 7 names are not spelled as their files, which are read all the same (sub\\my" in caplog.messages[0]
    assert caplog.messages[1:] == [f"{tmp_path}: 1 of 7 images are not there (sub/none.png)"]
    assert find_stems(tmp_path, ["a", "é/é", "b"], KINDS) == ["a.png", decomposed, None]


def test_no_spelling_leads_out_of_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "secret.png", "set/a.png")
    files = NamedFiles(tmp_path / "set")
    for name in ("../secret.png", "%2e%2e/secret.png", "..\\secret.png", "%2e%2e%5csecret.png", "%2f" + str(tmp_path)):
        assert files.find(name) is None
    assert not leads_inside("C:\\a.png") and leads_inside("a..b.png")
