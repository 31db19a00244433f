"""The files beside the package agree with each other: pyproject.toml, locks, environment.yml, Makefile, README."""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYTHONS = ["3.10.13", "3.11.7", "3.12.1", "3.13.0"]
SYSTEMS = {  # sys_platform, platform_system, os_name, platform_machine
    "linux-x86_64": ("linux", "Linux", "posix", "x86_64"),
    "linux-aarch64": ("linux", "Linux", "posix", "aarch64"),
    "macos-arm64": ("darwin", "Darwin", "posix", "arm64"),
    "windows-amd64": ("win32", "Windows", "nt", "AMD64"),
}
WITH_RTX = {"linux-x86_64", "windows-amd64"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lock_lines(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def environment(python: str, system: str) -> dict[str, str]:
    names = ("sys_platform", "platform_system", "os_name", "platform_machine")
    versions = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    return versions | dict(zip(names, SYSTEMS[system], strict=True))


def applying(requirements: Iterable[str], environment: Mapping[str, str]) -> list[Requirement]:
    parsed = [Requirement(line) for line in requirements]
    return [one for one in parsed if one.marker is None or one.marker.evaluate(dict(environment))]


def pins(lock: str, environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in applying(lock_lines(lock), environment):
        name = canonicalize_name(one.name)
        assert name not in found, f"{lock} pins {name} twice for {environment}"
        found[name] = str(one.specifier).removeprefix("==")
    return found


def as_set(requirements: Iterable[str]) -> set[str]:
    return {str(Requirement(line)) for line in requirements}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_locks_satisfy_every_dependency(python: str, system: str) -> None:
    where = environment(python, system)
    runtime = project()["dependencies"]
    dev = project()["optional-dependencies"]["dev"]
    for lock, wanted in [("requirements.lock", runtime), ("requirements-dev.lock", runtime + dev)]:
        pinned = pins(lock, where)
        for one in applying(wanted, where):
            name = canonicalize_name(one.name)
            assert name in pinned, f"{lock} has no {name}: make lock"
            assert one.specifier.contains(pinned[name]), f"{lock} has {name} {pinned[name]}, not {one}: make lock"
        assert ("tensorrt-rtx" in pinned) == (system in WITH_RTX)
    assert pins("requirements.lock", where).items() <= pins("requirements-dev.lock", where).items()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_hold_exact_pins_and_nothing_else(lock: str) -> None:
    assert "make lock" in (ROOT / lock).read_text(encoding="utf-8").split("\n\n")[0]
    for line in lock_lines(lock):
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; .+)?", line), line
    names = {canonicalize_name(Requirement(line).name) for line in lock_lines(lock)}
    assert not names & {"torch", "tensorrt", "pycuda"}


def test_conda_environment_is_the_runtime_with_the_gpu_extra() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == "tensorrt-workbench"
    (pip,) = (item["pip"] for item in conda["dependencies"] if isinstance(item, dict))
    from_conda = [item for item in conda["dependencies"] if isinstance(item, str) and item.startswith("pycuda")]
    assert as_set([*(line for line in pip if not line.startswith("-")), *from_conda]) == as_set(
        project()["dependencies"] + project()["optional-dependencies"]["gpu"]
    )
    (python,) = (item for item in conda["dependencies"] if str(item).startswith("python="))
    assert Requirement(f"python{project()['requires-python']}").specifier.contains(python.partition("=")[2])


def test_readme_and_makefile_name_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ["lab", "test"]:
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
