"""What is installed: each direct dependency has one tested version, and known bad releases are kept out."""

import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mbvision.commands import doctor

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")


def direct_dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(text) for listed in lists for text in listed]
    return [one for one in found if one.name != "mbvision"]


def constraints(python: str) -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    environment = {**default_environment(), "python_version": python}
    return [one for one in found if one.marker is None or one.marker.evaluate(environment)]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_has_one_tested_version_that_its_range_allows(python: str) -> None:
    tested = {canonicalize_name(one.name): one.specifier for one in constraints(python)}
    assert len(tested) == len(constraints(python))
    for needed in direct_dependencies():
        (pinned,) = tested[canonicalize_name(needed.name)]
        assert pinned.operator == "==" and needed.specifier.contains(pinned.version), needed


def test_releases_of_lightning_with_known_faults_are_neither_allowed_nor_unmentioned() -> None:
    (allowed,) = [one.specifier for one in direct_dependencies() if one.name == "lightning"]
    for version in ("2.5.0", "2.6.1", "2.6.2", "2.6.3", "2.6.5"):
        assert not allowed.contains(version)
        for package in ("lightning", "pytorch-lightning"):
            (line,) = doctor.warnings({package: version}, None, 2**40)
            assert f"{package} {version}" in line and "pip install" in line
            assert ("malicious" in line) == (version in ("2.6.2", "2.6.3"))
    assert not doctor.warnings({"lightning": "2.6.6", "pytorch-lightning": "2.7.0"}, None, 2**40)
