"""`_nvidia.py` speaks to several releases: every name it uses exists in them. The lists in tests/data/api were made
by introspection of each release: class -> members."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workbench"
API = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "data" / "api").glob("*.json")}
RTX = API["tensorrt_rtx-1.7.1"]
TREE = ast.parse((PACKAGE / "backends" / "_nvidia.py").read_text())
MADE_BY = {
    "create_builder_config": "IBuilderConfig",
    "create_network": "INetworkDefinition",
    "_create_network": "INetworkDefinition",
    "create_optimization_profile": "IOptimizationProfile",
    "get_error": "ParserError",
}


def variables() -> dict[str, str]:
    """The class of each variable that is assigned from `trt.Class(...)` or a method that makes one."""
    found = {}
    for node in ast.walk(TREE):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            made_by = (
                node.value.func.attr if isinstance(node.value.func, ast.Attribute) else ast.unparse(node.value.func)
            )
            if isinstance(node.value.func, ast.Attribute) and ast.unparse(node.value.func.value) == "trt":
                found[node.targets[0].id] = made_by
            elif made_by in MADE_BY:
                found[node.targets[0].id] = MADE_BY[made_by]
    return found


def used() -> set[tuple[str, str | None]]:
    """(class, member) for every attribute of `trt`, of its classes and of the variables above."""
    names = {(item, None) for item in set(variables().values())}
    for node in ast.walk(TREE):
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        owner = ast.unparse(node.value)
        if owner == "trt":
            names.add((node.attr, None))
        elif owner.startswith("trt."):
            names.add((owner.removeprefix("trt."), node.attr))
        elif owner in variables():
            names.add((variables()[owner], node.attr))
    return names


def implemented() -> Iterator[tuple[str, str]]:
    """(interface, method) for the methods of classes that derive from one of `trt`'s interfaces."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.ClassDef) and node.bases and ast.unparse(node.bases[0]).startswith("trt."):
            interface = ast.unparse(node.bases[0]).removeprefix("trt.")
            methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            yield from ((interface, name) for name in methods if not name.startswith("__"))


def detected() -> Iterator[tuple[str, str]]:
    """(class, member) that is asked for before it is used: getattr(trt.Class, "MEMBER", default) or hasattr."""
    for node in ast.walk(TREE):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            owner, name = ast.unparse(node.args[0]), node.args[1]
            if owner.startswith("trt.") and isinstance(name, ast.Constant):
                yield owner.removeprefix("trt."), name.value


def test_the_syntax_tree_gives_names_to_check() -> None:
    assert variables().items() >= {"builder": "Builder", "parser": "OnnxParser", "options": "IBuilderConfig"}.items()
    assert used() >= {("OnnxParser", "supports_model_v2"), ("BuilderFlag", "TF32"), ("ParserError", "node_name")}


@pytest.mark.parametrize(("owner", "member"), sorted(used(), key=str))
def test_every_used_name_exists_in_tensorrt_rtx(owner: str, member: str | None) -> None:
    assert owner in RTX
    assert member is None or member in RTX[owner]


@pytest.mark.parametrize(("interface", "method"), sorted(implemented()))
def test_every_implemented_method_belongs_to_its_interface(interface: str, method: str) -> None:
    assert method in RTX[interface]


@pytest.mark.parametrize(("owner", "member"), sorted(detected()))
def test_what_is_detected_exists_in_some_releases_and_not_in_others(owner: str, member: str) -> None:
    having = {release for release, api in API.items() if member in api.get(owner, ())}
    assert 0 < len(having) < len(API), f"{owner}.{member} exists in {having or 'no release'}: no need to ask"


def test_target_names_are_compute_capabilities() -> None:
    from workbench.backends._nvidia import _RTX_TARGET_BITS

    assert {name.upper() for name in _RTX_TARGET_BITS} <= set(RTX["ComputeCapability"])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_knows_releases_apart(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    if path.name != "_nvidia.py":
        assert not names & {"trt", "tensorrt", "tensorrt_rtx"}
