"""Text files are UTF-8 whatever the locale is, and text for a terminal never ends a command."""

import ast
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mbvision.commands import encoding_hint, run
from mbvision.writing import replace_text

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("mbvision", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
OF_BYTES = ("av.open", "member.open")
"""What is called ``open`` too: of videos, and of the members of archives."""


def in_the_encoding_of_the_locale(text: str) -> Iterator[str]:
    """The calls that open text without saying in which encoding; ruff's PLW1514 sees a few of them alone."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or "encoding" in (given := {one.arg for one in node.keywords}):
            continue
        called, method = ast.unparse(node.func), isinstance(node.func, ast.Attribute)
        name = called.rpartition(".")[2]
        modes = [one.value for one in node.keywords if one.arg == "mode"] + node.args[0 if method else 1 :]
        mode = "r" if not modes else modes[0].value if isinstance(modes[0], ast.Constant) else None
        opens = name in ("open", "fdopen") and called not in OF_BYTES and {*str(mode)} <= {*"rwaxt+"}
        if opens or (method and name in ("read_text", "write_text")) or "text" in given:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_file_is_opened_in_a_named_encoding(path: Path) -> None:
    assert list(in_the_encoding_of_the_locale(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "open(path)",
        "open(path, 'w')",
        "path.open()",
        "path.open(mode='a')",
        "(a / 'b').write_text(x)",
        "path.read_text()",
        "subprocess.run(x, text=True)",
    ],
)
def test_calls_without_an_encoding_are_seen(text: str) -> None:
    assert list(in_the_encoding_of_the_locale(text))


@pytest.mark.parametrize(
    "text",
    [
        "open(path, 'rb')",
        "path.open('wb')",
        "path.open(encoding='utf-8')",
        "Image.open(file)",
        "av.open(name, 'w', a=1)",
        "os.open(path, os.O_RDONLY)",
        "write_text(image, text)",
    ],
)
def test_other_calls_are_left_alone(text: str) -> None:
    assert not list(in_the_encoding_of_the_locale(text))


def test_text_files_hold_utf_8_and_names_that_the_locale_cannot_decode(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.txt", "Straße \udcff")
    assert (tmp_path / "a.txt").read_bytes() == "Straße ".encode() + b"\xff"


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1"])
def test_a_name_that_the_terminal_lacks_is_printed_as_an_escape(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    terminal = io.TextIOWrapper(written, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)

    def show(arguments: Sequence[str]) -> None:
        print("猫 \udcff 0.5")

    assert run(show, []) == 0
    assert written.getvalue() == b"\\u732b \\udcff 0.5\n"
    assert terminal.errors == "strict"


def test_a_name_in_an_error_comes_with_a_hint_at_the_locale_where_that_is_not_utf_8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    for text in ("é.jpg is missing", "\\udcc3\\udca9.jpg is missing"):
        assert "names of files are read as ascii here: set PYTHONUTF8=1" in encoding_hint(text)
    assert encoding_hint("a.jpg is missing") == ""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "utf-8")
    assert encoding_hint("é.jpg is missing") == ""
