"""What the workbench says to NVIDIA's libraries exists in each release it is said to.

The lists in tests/data/api were made by introspection of each release: class -> members. The code is followed from the
functions that other modules call: in a branch behind `hasattr(trt.Class, "member")` only the releases are left that
have the member, behind its `else` or after its `return` only the others, and a private function is for the releases of
its calls.
"""

import ast
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "workbench"
BACKENDS = PACKAGE / "backends"
API = {
    path.name.removesuffix(".json.gz"): json.loads(gzip.decompress(path.read_bytes()))
    for path in (Path(__file__).parents[1] / "data" / "api").glob("*.json.gz")
}
ALL = frozenset(API)
PLAIN = frozenset(name for name in API if name.startswith("tensorrt-"))
WITH_CALIBRATORS = frozenset(name for name in API if "IInt8Calibrator" in API[name])
RTX = API["tensorrt_rtx-1.7.1"]

BUILDING = {
    "builder": "Builder", "network": "INetworkDefinition", "options": "IBuilderConfig", "parser": "OnnxParser",
    "layer": "ILayer", "tensor": "ITensor", "result": "IOptimizationProfile", "timings": "ITimingCache",
    "runtime": "Runtime", "engine": "ICudaEngine", "inspector": "EngineInspector", "logger": "ILogger",
}  # fmt: skip
RUNNING = {
    "engine": "ICudaEngine", "opened.engine": "ICudaEngine", "self._opened.engine": "ICudaEngine",
    "self.engine": "ICudaEngine", "context": "IExecutionContext", "self.context": "IExecutionContext",
    "runtime": "Runtime", "refitter": "Refitter",
}  # fmt: skip
FILES: dict[str, tuple[frozenset[str], dict[str, str]]] = {
    "_nvidia.py": (ALL, BUILDING | RUNNING | {"error": "ParserError"}),
    "nvidia_build.py": (ALL, BUILDING),
    "nvidia_log.py": (ALL, {}),
    "nvidia_parser.py": (ALL, BUILDING | {"error": "ParserError"}),
    "calibrators.py": (WITH_CALIBRATORS, {}),
    "nvidia_callbacks.py": (ALL, {}),
    "nvidia_engine.py": (PLAIN, RUNNING),
    "nvidia_context.py": (PLAIN, RUNNING),
    "nvidia_session.py": (PLAIN, {"engine": "ICudaEngine", "self._opened.engine": "ICudaEngine"}),
}
"""Every file that speaks to a library: the releases it is for, and of what class its variables are."""
ONLY_FOR = {"inspect_plan": PLAIN, "progress_monitor": ALL - {"tensorrt-8.6.0"}}
"""Functions of such files that are for fewer releases."""
DOCUMENTED = {("IOutputAllocator", "reallocate_output_async")}
"""Methods to implement that introspection does not show, as in docs.nvidia.com/deeplearning/tensorrt (python-api)."""
ASKERS = {"_nvidia.py"}
"""The only file that may ask what a release has."""


@dataclass
class Reader:
    """used: (class, member or None) -> the releases it is said to. asked: (class, member) that hasattr asks for."""

    base: frozenset[str]
    classes: dict[str, str]
    functions: dict[str, ast.FunctionDef]
    used: dict[tuple[str, str | None], frozenset[str]] = field(default_factory=dict)
    asked: set[tuple[str, str | None]] = field(default_factory=set)
    called: dict[str, frozenset[str]] = field(default_factory=dict)

    def owner(self, node: ast.expr) -> str | None:
        """The class that an expression names or whose instance it is; 'trt' for the module itself."""
        if isinstance(node, ast.Attribute) and self.owner(node.value) == "trt":
            return node.attr
        text = ast.unparse(node)
        return "trt" if text.rpartition(".")[2] == "trt" else self.classes.get(text)

    def question(self, test: ast.expr) -> tuple[str, str | None] | None:
        """(class, member) of a `hasattr`, also as a part of `... and hasattr(...)`, or `not hasattr(...)`."""
        for node in ast.walk(test):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
                owner, name = self.owner(node.args[0]), node.args[1]
                assert owner and isinstance(name, ast.Constant), ast.unparse(node)
                return (name.value, None) if owner == "trt" else (owner, name.value)
        return None

    def split(self, test: ast.expr, releases: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        question = self.question(test)
        if question is None:
            return releases, releases
        self.asked.add(question)
        having = frozenset(name for name in releases if has(name, *question))
        is_not = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        return (releases - having, having) if is_not else (having, releases - having)

    def block(self, statements: list[ast.stmt], releases: frozenset[str]) -> None:
        for statement in statements:
            if isinstance(statement, ast.If):
                self.expression(statement.test, releases)
                yes, no = self.split(statement.test, releases)
                self.block(statement.body, yes)
                self.block(statement.orelse, no)
                if yes != no and isinstance(statement.body[-1], ast.Return | ast.Raise):
                    releases = no
            else:
                self.parts(statement, releases)

    def parts(self, node: ast.AST, releases: frozenset[str]) -> None:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self.block(value, releases)
            elif name != "annotation":
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, ast.AST):
                        self.expression(item, releases)

    def expression(self, node: ast.AST, releases: frozenset[str]) -> None:
        if isinstance(node, ast.IfExp):
            yes, no = self.split(node.test, releases)
            self.expression(node.test, releases)
            self.expression(node.body, yes)
            self.expression(node.orelse, no)
            return
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
            owner = self.owner(node.value)
            if owner:
                self.use((node.attr, None) if owner == "trt" else (owner, node.attr), releases)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            owner, name = self.owner(node.args[0]), node.args[1]
            if owner and owner != "trt" and isinstance(name, ast.Constant) and len(node.args) == 3:
                self.asked.add((owner, name.value))
        if isinstance(node, ast.Name) and node.id in self.functions:
            self.called[node.id] = self.called.get(node.id, frozenset()) | releases
        self.parts(node, releases)

    def use(self, name: tuple[str, str | None], releases: frozenset[str]) -> None:
        self.used[name] = self.used.get(name, frozenset()) | releases


def has(release: str, owner: str, member: str | None) -> bool:
    return owner in API[release] and (member is None or member in API[release][owner])


def tree(file: str) -> ast.Module:
    return ast.parse((BACKENDS / file).read_text())


def read(file: str) -> Reader:
    base, classes = FILES[file]
    functions = {node.name: node for node in tree(file).body if isinstance(node, ast.FunctionDef)}
    reader = Reader(base, classes, functions)
    told: dict[str, frozenset[str]] = {}
    for node in tree(file).body:
        if isinstance(node, ast.ClassDef):
            reader.parts(node, base)
    public = {
        name: ONLY_FOR.get(name, base)
        for name, node in functions.items()
        if not name.startswith("_") or node.decorator_list
    }
    while True:  # a private function is read again when it turns out to be for more releases
        calls = {name: reader.called.get(name, frozenset()) | public.get(name, frozenset()) for name in functions}
        waiting = {name: releases for name, releases in calls.items() if releases - told.get(name, frozenset())}
        if not waiting:
            break
        for name, releases in waiting.items():
            told[name] = releases
            reader.parts(functions[name], releases)
    assert set(told) == set(functions), f"{file}: nothing calls {set(functions) - set(told)}"
    return reader


def used_names() -> Iterator[tuple[str, str, str | None, frozenset[str]]]:
    for file in FILES:
        for (owner, member), releases in read(file).used.items():
            yield file, owner, member, releases


def implemented() -> Iterator[tuple[str, str, str]]:
    """(file, interface, method) for the methods of classes that derive from one of `trt`'s interfaces."""
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ClassDef) and node.bases and ast.unparse(node.bases[0]).startswith("trt."):
                interface = ast.unparse(node.bases[0]).removeprefix("trt.")
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and not item.decorator_list]
                yield from ((file, interface, item.name) for item in methods if not item.name.startswith("__"))


USED = sorted(used_names(), key=lambda item: (*item[:2], item[2] or ""))


def test_the_syntax_tree_gives_names_to_check() -> None:
    found = {(file, owner, member): releases for file, owner, member, releases in USED}
    older = {"tensorrt-8.6.0", "tensorrt-10.16.1"}
    assert found["_nvidia.py", "OnnxParser", "supports_model"] == {"tensorrt-8.6.0"}
    assert found["_nvidia.py", "OnnxParser", "supports_model_v2"] == ALL - {"tensorrt-8.6.0"}
    assert found["_nvidia.py", "ILayer", "set_output_type"] == older
    assert found["_nvidia.py", "IBuilderConfig", "num_compute_capabilities"] == {"tensorrt_rtx-1.7.1"}
    assert found["_nvidia.py", "BuilderFlag", "TF32"] == ALL
    assert found["nvidia_build.py", "EngineInspector", "get_engine_information"] == PLAIN
    assert found["nvidia_context.py", "IExecutionContext", "execute_async_v3"] == PLAIN


@pytest.mark.parametrize(
    ("file", "owner", "member", "releases"), USED, ids=[f"{item[0]}-{item[1]}.{item[2]}" for item in USED]
)
def test_every_used_name_exists_in_the_releases_it_is_used_for(
    file: str, owner: str, member: str | None, releases: frozenset[str]
) -> None:
    missing = {release for release in releases if not has(release, owner, member)}
    assert not missing, f"{file}: {owner}.{member} is not in {missing}"


@pytest.mark.parametrize(("file", "interface", "method"), sorted(implemented()))
def test_every_implemented_method_belongs_to_its_interface(file: str, interface: str, method: str) -> None:
    assert (interface, method) in DOCUMENTED or any(has(release, interface, method) for release in FILES[file][0])


ASKED = sorted((file, *question) for file in FILES for question in read(file).asked)


@pytest.mark.parametrize(("file", "owner", "member"), ASKED, ids=[f"{item[1]}.{item[2]}" for item in ASKED])
def test_what_is_asked_for_exists_in_some_releases_and_not_in_others(file: str, owner: str, member: str | None) -> None:
    assert file in ASKERS
    having = {release for release in FILES[file][0] if has(release, owner, member)}
    assert 0 < len(having) < len(FILES[file][0]), f"{owner}.{member} is in {having or 'no release'}: no need to ask"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_speaks_to_the_libraries(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    if path.parent != BACKENDS or path.name not in FILES:
        assert not names & {"trt", "tensorrt", "tensorrt_rtx"}


# ---- names that are made of words


def test_target_names_are_compute_capabilities() -> None:
    from workbench.backends.plan_record import RTX_TARGET_BITS

    assert {name.upper() for name in RTX_TARGET_BITS} <= set(RTX["ComputeCapability"])


@pytest.mark.parametrize("release", sorted(PLAIN))
def test_what_a_release_is_said_to_take_it_has_and_nothing_is_left_out(release: str) -> None:
    from workbench.backends._nvidia import _TARGET_LEVELS, abilities

    api, able = API[release], abilities(release.removeprefix("tensorrt-"))
    flags = set(api["BuilderFlag"])
    assert able.weakly_typed == ("FP16" in flags) == ("IInt8Calibrator" in api)
    assert {_TARGET_LEVELS[name] for name in able.targets} == set(api["HardwareCompatibilityLevel"])
    assert {name.upper() for name in able.tactic_sources} == set(api["TacticSource"])
    assert {"WORKSPACE", *(name.upper() for name in able.memory_pools)} == set(api["MemoryPoolType"])
    assert ("strip_weights" in able.builder_options) == ("STRIP_PLAN" in flags)
    if able.weakly_typed:
        assert {name.upper() for name in able.precisions} - {"FP32"} == flags & {"TF32", "FP16", "BF16", "INT8"}


@pytest.mark.parametrize("release", sorted(WITH_CALIBRATORS))
def test_there_is_a_calibrator_for_every_algorithm(release: str) -> None:
    from workbench.backends.calibrators import CLASSES
    from workbench.calibration.text_tables import HEADERS

    assert set(CLASSES) == set(HEADERS)
    assert set(CLASSES.values()) <= set(API[release])


def test_a_calibrator_implements_the_whole_interface() -> None:
    """The legacy one adds four methods, listed in NVIDIA's documentation of IInt8LegacyCalibrator."""
    (calibrator,) = (node for node in ast.walk(tree("calibrators.py")) if getattr(node, "name", "") == "Calibrator")
    methods = {item.name for item in calibrator.body if isinstance(item, ast.FunctionDef)}
    legacy = {"get_quantile", "get_regression_cutoff", "read_histogram_cache", "write_histogram_cache"}
    wanted = set(API["tensorrt-8.6.0"]["IInt8Calibrator"]) - {"get_algorithm"}
    assert methods == wanted | legacy
