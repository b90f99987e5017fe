"""Lists and folders of other layouts: YOLO, classes of masks, folders of classes and identities, CelebA's tables."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbvision.commands.run_folder import read_command
from mbvision.data.celeba import celeba
from mbvision.data.identity_folder import identity_folder
from mbvision.data.image_folder import image_folder
from mbvision.data.masks_folder import masks_folder
from mbvision.data.yolo import convert_yolo
from tests.faults.case import Case

NAMES = b"names: [cat, dog]\n"
LAUGHS = b"a: &a [x, x]\n" + b"".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n".encode() for i in range(20)
)


def picture(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(path)


def list_cases() -> Iterator[Case]:
    yield from _yolo()
    yield from _classes()
    yield from _folders()
    yield from _tables()
    yield from _commands()


def _case(name: str, make: Callable[[Path], Any], use: Callable[[Any], Any], **expected: Any) -> Case:
    return Case(kind="lists", name=name, make=make, use=use, **expected)


def _yolo() -> Iterator[Case]:
    def make(labels: bytes, names: bytes = NAMES) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            picture(folder / "images" / "train" / "a.png")
            (folder / "labels" / "train").mkdir(parents=True)
            (folder / "labels" / "train" / "a.txt").write_bytes(labels)
            (folder / "data.yaml").write_bytes(names)
            return folder

        return write

    def use(folder: Path) -> str:
        return convert_yolo(folder, folder.parent / "out")["train"].read_text()

    good = b"1 0.5 0.5 0.25 0.5\n"
    yield _case(
        "YOLO: one box", make(good), use, loads=lambda text: '"bbox": [15.0, 5.0, 10.0, 10.0]' in text, quick=True
    )
    yield _case("YOLO: no box", make(b"\n"), use, loads=lambda text: '"annotations": []' in text)
    for name, line in {
        "four numbers": b"1 0.5 0.5 0.25",
        "six numbers": b"1 0.5 0.5 0.25 0.5 0.9",
        "pixels": b"1 20 10 10 10",
        "a class too high": b"2 0.5 0.5 0.25 0.5",
        "a negative class": b"-1 0.5 0.5 0.25 0.5",
        "a class with a point": b"1.0 0.5 0.5 0.25 0.5",
        "NaN": b"1 nan 0.5 0.25 0.5",
        "infinite": b"1 0.5 inf 0.25 0.5",
        "no width": b"1 0.5 0.5 0 0.5",
        "text": b"cat 0.5 0.5 0.25 0.5",
        "no text": b"\xff\xfe\x00\x01",
    }.items():
        yield _case(f"YOLO: {name}", make(good + line + b"\n"), use, error=("a.txt",), quick=name == "NaN")
    for name, text in {
        "empty": b"",
        "a list": b"- cat\n",
        "no names": b"nc: 2\n",
        "names twice": b"names: [a, b]\nnames: [c, d]\n",
        "a class twice": b"names: [a, a]\n",
        "an object of Python": b"names: !!python/object/apply:os.system ['touch ../outside/pwned']\n",
        "references that unfold": LAUGHS + NAMES,
        "nested 100,000 deep": b"names: " + b"[" * 100_000,
        "not YAML": b"names: [a, b\n: :",
        "2 MiB": NAMES + b"#" * (2 * 1024**2),
        "no text": b"\xff\xfe\xfd",
        "a name of two lines": b'names: ["a\\nb", c]\n',
        "an integer of 10,000 digits": b"names: [" + b"9" * 10_000 + b"]\n",
    }.items():
        yield _case(f"YOLO: data.yaml: {name}", make(good, text), use, error=("data.yaml",), quick="Python" in name)

    def special(target: str | None) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            label = make(good)(folder) / "labels" / "train" / "a.txt"
            label.unlink()
            if target is None:
                os.mkfifo(label)
            else:
                label.symlink_to(target)
            return folder

        return write

    for name, target in (
        ("a pipe", None),
        ("a device", "/dev/zero"),
        ("a link to outside", "../../../outside/secret.txt"),
    ):
        yield _case(f"YOLO: labels that are {name}", special(target), use, error=("a.txt",), quick=True)


def _classes() -> Iterator[Case]:
    def make(file: str, content: bytes) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            picture(folder / "images" / "val" / "a.png")
            (folder / "masks" / "val").mkdir(parents=True)
            Image.fromarray(np.ones((20, 40), dtype=np.uint8)).save(folder / "masks" / "val" / "a.png")
            (folder / file).write_bytes(content)
            return folder

        return write

    def use(folder: Path) -> Any:
        return masks_folder(root=folder, split="val").read(0).target.mask

    yield _case(
        "classes: JSON",
        make("classes.json", b'["sky", "road"]'),
        use,
        loads=lambda mask: bool((mask == 1).all()),
        quick=True,
    )
    yield _case("classes: text", make("classes.txt", b"sky\nroad\n"), use, loads=lambda mask: bool((mask == 1).all()))
    for name, content in {
        "empty": b"",
        "not JSON": b"sky, road",
        "a number": b"7",
        "null": b"null",
        "names that are numbers": b"[1, 2]",
        "an empty list": b"[]",
        "a class twice": b'["sky", "sky"]',
        "300 classes": str([f"c{i}" for i in range(300)]).replace("'", '"').encode(),
        "a name that clears the screen": b'["sky", "\\u001b[2J"]',
        "nested 100,000 deep": b"[" * 100_000,
        "a palette that is too short": b'{"classes": ["sky", "road"], "palette": [[0, 0, 0]]}',
        "a palette of texts": b'{"classes": ["sky", "road"], "palette": ["red", "blue"]}',
        "void that is a text": b'{"classes": ["sky", "road"], "void_index": "x"}',
        "void that is no byte": b'{"classes": ["sky", "road"], "void_index": 300}',
        "no text": b"\xff\xfe\xfd",
    }.items():
        yield _case(f"classes: {name}", make("classes.json", content), use, error=("classes.json",))
    yield _case("classes: none", make("other.json", b"[]"), use, error=("classes.json",))


def _folders() -> Iterator[Case]:
    def use(folder: Path) -> Any:
        reader = image_folder(root=folder, split="train")
        return [reader.read(index).target.label for index in range(len(reader))]

    def make(change: Callable[[Path], None]) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            for name in ("cat", "dog"):
                picture(folder / "train" / name / f"{name}.png")
            change(folder / "train")
            return folder

        return write

    def outward(train: Path) -> None:
        picture(train.parent.parent / "outside" / "x.png")
        (train / "cat" / "link.png").symlink_to(train.parent.parent / "outside" / "x.png")

    yield _case("folders: two classes", make(lambda _: None), use, loads=lambda labels: labels == [0, 1], quick=True)
    yield _case(
        "folders: a hidden file",
        make(lambda t: picture(t / "cat" / ".x.png")),
        use,
        loads=lambda labels: labels == [0, 1],
    )
    yield _case(
        "folders: a broken picture",
        make(lambda t: (t / "cat" / "bad.jpg").write_bytes(b"x") and None),
        use,
        error=("bad.jpg",),
    )
    yield _case("folders: a pipe", make(lambda t: os.mkfifo(t / "cat" / "pipe.jpg")), use, error=("pipe.jpg",))
    yield _case("folders: a link to outside", make(outward), use, loads=lambda labels: labels == [0, 0, 1], quick=True)
    yield _case(
        "folders: a loop of links",
        make(lambda t: (t / "cat" / "loop").symlink_to(".")),
        use,
        loads=lambda labels: set(labels) == {0, 1},
        error=("loop",),
    )
    yield _case("folders: no classes", lambda folder: (folder / "train").mkdir() or folder, use, error=("train",))
    yield _case("folders: no such split", lambda folder: folder, use, error=("train",))


def _tables() -> Iterator[Case]:
    attributes = b"2\nSmiling Young\na.png 1 -1\nb.png -1 1\n"
    partition = b"a.png 0\nb.png 1\n"
    files = {
        "list_attr_celeba.txt": attributes,
        "list_eval_partition.txt": partition,
        "identity_CelebA.txt": b"a.png 7\nb.png 8\n",
    }

    def make(**changes: bytes) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            for name in ("a.png", "b.png"):
                picture(folder / "img_align_celeba" / name)
            for file, content in files.items():
                (folder / file).write_bytes(changes.get(file.partition("_")[0] + file.split("_")[1][:1], content))
            return folder

        return write

    def use(folder: Path) -> Any:
        reader = celeba(root=folder, split="train")
        return reader.read(0).target.attributes.tolist()

    yield _case("CelebA: whole", make(), use, loads=lambda found: found == [1, 0], quick=True)
    for name, content in {
        "fewer lines than it says": b"9\nSmiling Young\na.png 1 -1\n",
        "a value too few": b"2\nSmiling Young\na.png 1\nb.png 1 1\n",
        "a value of 5": b"2\nSmiling Young\na.png 5 1\nb.png 1 1\n",
        "an attribute twice": b"1\nSmiling Smiling\na.png 1 1\n",
        "no header": b"a.png 1 -1\n",
        "empty": b"",
        "noise": np.random.default_rng(1).bytes(500),
    }.items():
        yield _case(f"CelebA: attributes: {name}", make(lista=content), use, error=("list_attr_celeba.txt",))
    for name, content in {"a split of 7": b"a.png 7\n", "nothing of train": b"b.png 1\n", "empty": b""}.items():
        yield _case(f"CelebA: partition: {name}", make(liste=content), use, error=("list_eval_partition.txt",))
    outside = b"../../outside/secret.txt 0\n"
    table = b"1\nSmiling Young\n../../outside/secret.txt 1 -1\n"
    yield _case(
        "CelebA: a picture outside",
        make(liste=outside, lista=table, identityC=b"../../outside/secret.txt 7\n"),
        use,
        error=("secret.txt",),
    )

    def pairs(content: bytes) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            for name in ("Ann", "Bob"):
                for number in (1, 2):
                    picture(folder / "lfw" / name / f"{name}_{number:04d}.png")
            (folder / "pairs.txt").write_bytes(content)
            return folder

        return write

    def compared(folder: Path) -> Any:
        return len(identity_folder(root=folder, split="lfw", pairs="pairs.txt"))

    yield _case(
        "pairs: whole", pairs(b"1\nAnn\t1\t2\nAnn\t1\tBob\t1\n"), compared, loads=lambda count: count == 3, quick=True
    )
    for name, content in {
        "empty": b"",
        "no header": b"Ann\t1\t2\n",
        "fewer lines than it says": b"2\nAnn\t1\t2\n",
        "a picture that is not there": b"1\nAnn\t1\t9\nAnn\t1\tBob\t1\n",
        "a number that is a text": b"1\nAnn\tx\t2\nAnn\t1\tBob\t1\n",
        "a path": b"1\n../../outside\t1\t2\nAnn\t1\tBob\t1\n",
        "a count of a million digits": b"9" * 1_000_000 + b"\nAnn\t1\t2\n",
        "a superscript for a number": "1\nAnn\t²\t2\nAnn\t1\tBob\t1\n".encode(),
    }.items():
        yield _case(f"pairs: {name}", pairs(content), compared, error=("pairs.txt",))


def _commands() -> Iterator[Case]:
    """The ``config.yaml`` beside a checkpoint that is resumed."""

    def make(content: bytes) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            (folder / "config.yaml").write_bytes(content)
            return folder / "config.yaml"

        return write

    yield _case(
        "config.yaml: whole",
        make(b"seed: 0\ncommand: [seed=0]\n"),
        read_command,
        loads=lambda command: command == ["seed=0"],
    )
    for name, content in {
        "empty": b"",
        "no command": b"seed: 0\n",
        "a command that is a text": b"command: seed=0\n",
        "a command of numbers": b"command: [1, 2]\n",
        "an object of Python": b"command: !!python/object/apply:os.system ['touch ../outside/pwned']\n",
        "references that unfold": LAUGHS + b"command: [seed=0]\n",
        "a key twice": b"command: [seed=0]\ncommand: [seed=1]\n",
        "nested 100,000 deep": b"a: " + b"{b: " * 100_000,
        "no text": b"\xff\xfe\xfd",
    }.items():
        yield _case(f"config.yaml: {name}", make(content), read_command, error=("config.yaml",), quick="Python" in name)
