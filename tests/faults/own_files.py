"""A user's own files under conf/: damaged, with keys that nothing reads, with values of another kind or range."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mbvision.commands import compose, conf_files, kinds
from mbvision.commands.train import configure
from tests.faults.case import Case

SHIPPED = conf_files.conf_folder()
FILES = {
    "backbone": "mobilenet_v2",
    "data": "coco",
    "experiment": "demo",
    "optimizer": "adamw",
    "schedule": "cosine",
    "task": "ssdlite",
    "trainer": "debug",
    "transform": "ssd",
    "variant": "timm",
}
"""A file of each group that a user might start from."""

JUNK = ("banana", "-7", "[1, banana]", "{a: 1}", ".inf", "2020-01-01")


def own_file_cases() -> Iterator[Case]:
    configure([])  # imports what a configuration is checked with, here and not in every case
    for group, name in FILES.items():
        text = (SHIPPED / group / f"{name}.yaml").read_text(encoding="utf-8")
        yield _case(group, "as it is", text, loads=True, quick=group == "data")
        yield _case(group, "with carriage returns", text.replace("\n", "\r\n"), loads=True)
        yield _case(group, "with a byte order mark", "\ufeff" + text, error=("mine.yaml", "byte order mark"))
        yield from _damaged(group, text)
        yield from _unknown_keys(group, text)
        yield from _values(group, text)


def _case(
    group: str,
    name: str,
    text: str | bytes,
    *,
    loads: bool = False,
    error: tuple[str, ...] | None = None,
    quick: bool = False,
) -> Case:
    def make(folder: Path) -> Path:
        shutil.copytree(SHIPPED, folder / "conf")
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "conf" / group / "mine.yaml").write_bytes(content)
        return folder / "conf"

    def use(folder: Path) -> Any:
        for module in (conf_files, compose, kinds):  # of this case's own process
            module.conf_folder = lambda: folder
        return configure([f"{group}=mine"])[0]

    right = (lambda config: isinstance(config, dict)) if loads else None
    return Case(
        kind="own files", name=f"{group}: {name}"[:100], make=make, use=use, loads=right, error=error, quick=quick
    )


def _damaged(group: str, text: str) -> Iterator[Case]:
    lines = text.splitlines()
    keyed = [number for number, line in enumerate(lines) if line[:1].isalpha()]
    first = lines[keyed[-1]]
    nested = "[" * 500 + "]" * 500
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    many = "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairs)
    for name, content in {
        "a tab": text + "\n\tseed: 1\n",
        "a key twice": f"{text}\n{first}\n",
        "a list": "- a\n- b\n",
        "a word": "word",
        "a number as a key": text + "\n5: 5\n",
        "nothing": "",
        "comments alone": "# nothing\n",
        "an open bracket": text + "\nx: [1, 2\n",
        "an open quote": text + "\nx: 'a\n",
        "a colon too many": text + "\na: b: c\n",
        "two documents": f"{text}\n---\n{text}",
        "a Python object": text + "\nx: !!python/object/apply:os.system ['touch pwned']\n",
        "nested anchors": f"{text}\na: &a [x, x]\n{many}\n",
        "an anchor to itself": text + "\nx: &x [*x]\n",
        "deep nesting": f"{text}\nx: {nested}\n",
        "a null byte": text + "\x00",
        "defaults that are no list": "defaults: 5\n" + "\n".join(line for line in lines if "defaults" not in line),
    }.items():
        quick = group == "data" and name in ("a tab", "a key twice", "a list", "nested anchors")
        yield _case(group, name, content, error=("mine.yaml",), quick=quick)
    yield _case(
        group, "Latin-1", (text + "\n# é\n").encode("latin-1"), error=("mine.yaml", "UTF-8"), quick=group == "data"
    )
    yield _case(group, "UTF-16", text.encode("utf-16"), error=("mine.yaml", "UTF-8"))
    yield _case(group, "based on itself", f"defaults: [mine, _self_]\n{_without_defaults(text)}", error=("mine.yaml",))
    for cut in range(1, 6):  # what is left may be whole, or is refused by name
        yield _case(group, f"cut at {cut}/6", text[: len(text) * cut // 6], loads=True, error=())
    for number in keyed:
        rest = "\n".join(lines[:number] + lines[number + 1 :])
        yield _case(group, f"without line {number}", rest, loads=True, error=())


def _without_defaults(text: str) -> str:
    """The file without its list of defaults, on one line or several."""
    lines, inside = [], False
    for line in text.splitlines():
        inside = line.startswith("defaults:") or (inside and line[:1] in (" ", "-"))
        if not inside:
            lines.append(line)
    return "\n".join(lines)


def _unknown_keys(group: str, text: str) -> Iterator[Case]:
    """A component's own keys are its constructor's to refuse, with the key; all others the file's."""
    for key in ("learning_rate: 0.1", "loader: {batchsize: 3}", "batch-size: 3", "hydra: {run: {dir: a}}"):
        word = key.split(":")[0].split("-")[0]
        yield _case(
            group, f"with {key}", f"{text}\n{key}\n", error=(word,), quick=(group, word) == ("data", "learning_rate")
        )


def _values(group: str, text: str) -> Iterator[Case]:
    """Every key at the outer level with values of other kinds; some fit."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        key = line.partition(":")[0]
        if line[:1].isalpha() and key != "defaults" and not line.rstrip().endswith(":"):
            for junk in JUNK:
                changed = "\n".join([*lines[:number], f"{key}: {junk}", *lines[number + 1 :]])
                yield _case(group, f"{key}: {junk}", changed, loads=True, error=())
