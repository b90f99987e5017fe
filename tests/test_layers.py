"""Imports point one way, and what is dangerous or slow to import stays where it belongs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mbvision"
FLOOR = {"structures", "errors", "files", "writing"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "stopping": set(),
    "writing": set(),
    "structures": set(),
    "boxes": FLOOR,
    "checkpoint_checks": FLOOR,
    "state_dicts": FLOOR,
    "masks": FLOOR,
    "draw_benchmark": FLOOR,
    "quantization": set(),
    "draw_complexity": FLOOR,
    "draw": FLOOR,
    "draw_faces": FLOOR,
    "draw_masks": FLOOR | {"draw"},
    "backbones": FLOOR,
    "heads": FLOOR | {"boxes", "backbones"},
    "losses": FLOOR | {"boxes"},
    "metrics": FLOOR | {"boxes", "masks", "draw"},
    "data": FLOOR | {"boxes", "stopping"},
    "network": FLOOR | {"backbones", "heads"},
    "data_checks": FLOOR | {"data", "draw", "draw_masks", "heads"},
    "tasks": FLOOR | {"boxes", "heads", "losses", "metrics"},
}
UPPER = set(ALLOWED) | {"network", "tasks", "build", "checkpoint"}
ALLOWED |= {
    "analysis": UPPER,
    "deploy": UPPER | {"checkpoint_checks", "__init__"},
    "build": set(ALLOWED),
    "checkpoint": set(ALLOWED) | {"build", "__init__"},
    "weights": set(ALLOWED) | {"build", "checkpoint"},
    "engine": UPPER,
    "inference": UPPER | {"deploy"},
    "commands": UPPER | {"analysis", "deploy", "engine", "inference", "weights", "__init__"},
    "__main__": {"commands"},
}
ONLY_IN = {
    "lightning": {"engine", "commands"},
    "hydra": {"commands"},
    "omegaconf": {"commands"},
    "albumentations": {"data"},
    "matplotlib": {"draw", "draw_benchmark", "draw_complexity", "draw_faces", "draw_masks"},
}
FORBIDDEN_CALLS = {
    "torch.load": "checkpoint.py",
    "Image.open": "data/images.py",
    "cv2.imread": "",
    "cv2.imdecode": "",
    "pickle.load": "",
    "eval": "",
    "exec": "",
}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "conf" not in path.parts)


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The top-level package of each import, and the part of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" if node.module == "mbvision" else node.module for a in node.names]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            yield top, rest.split(".")[0]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    for top, ours in imported(ast.parse(path.read_text())):
        if top == "mbvision" and ours != part:
            known = "__init__" if ours.startswith("_") else ours
            assert known in ALLOWED[part], f"{part} must not import {ours}"
        assert part in ONLY_IN.get(top, {part}), f"{part} must not import {top}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dangerous_calls_have_one_door(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            door = FORBIDDEN_CALLS[ast.unparse(node.func)]
            assert str(path.relative_to(PACKAGE)) == door, f"{ast.unparse(node.func)} outside {door or 'any door'}"
    assert "weights_only=False" not in path.read_text()


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
