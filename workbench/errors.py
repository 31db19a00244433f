"""Every error a user can cause, as one tree.

WorkbenchError            what went wrong, where, and what to do now
├── ModelError            the ONNX file is missing, broken, or reaches outside its folder
├── ShapeError            shapes or a profile that do not fit the model's inputs
│   └── ShapesNotSet      a subgraph reads tensors of open size, and nothing tells their sizes
├── ConfigError           an option that does not exist or that the back end cannot fulfil
├── FeedError             arrays that do not fit a session's inputs
├── AccuracyError         outputs that differ by more than was allowed
├── BackendError          a back end that cannot do this on this machine
├── BuildError            a build that failed; knows the node at fault and the last log lines
├── ExportError           a framework's model that could not become ONNX, or that answers differently as ONNX
├── RunError              a model that does not run on these inputs; knows the node at fault
├── ViewError             a viewer that cannot show this model
├── Cancelled             a build or a measurement that the user stopped
└── StoreError            the engine store cannot be read or written
    ├── UnknownEngine     no stored engine, or several, have this key
    ├── UnknownRun        no run of the history, or several, have this id; or no baseline has this name
    └── UntrustedEngine   a plan that this store did not build
"""

from __future__ import annotations

import textwrap


class WorkbenchError(Exception):
    """A sentence for the user. `exit_code` is what the command line returns: 2 for a mistake, 1 for a failure."""

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the sentence, not the way through the code that led to it."""
        return textwrap.wrap(f"{type(self).__name__}: {self}", 100, break_long_words=False, break_on_hyphens=False)


class ModelError(WorkbenchError):
    pass


class ShapeError(WorkbenchError):
    pass


class ShapesNotSet(ShapeError):
    """subgraph: id of its part; tensors: those it reads; skip_at: the min_subgraph_size that leaves it native."""

    def __init__(self, message: str, *, subgraph: str = "", tensors: tuple[str, ...] = (), skip_at: int = 0) -> None:
        self.subgraph, self.tensors, self.skip_at = subgraph, tensors, skip_at
        super().__init__(message)


class ConfigError(WorkbenchError):
    pass


class FeedError(WorkbenchError):
    pass


class AccuracyError(WorkbenchError):
    exit_code = 1


class BackendError(WorkbenchError):
    exit_code = 1


class BuildError(WorkbenchError):
    """A failed build.

    reason: what the back end said; node: ONNX node at fault, if known; remedy: what to do;
    log_tail: the last meaningful log lines; repeat: a shell line that repeats the build.
    """

    exit_code = 1

    def __init__(
        self,
        reason: str,
        *,
        node: str | None = None,
        remedy: str | None = None,
        log_tail: tuple[str, ...] = (),
        repeat: str | None = None,
    ) -> None:
        self.reason, self.node, self.remedy, self.log_tail, self.repeat = reason, node, remedy, log_tail, repeat
        where = f"node {node}: " if node and node not in reason else ""
        super().__init__(f"{where}{reason.rstrip('.')}." + (f" {remedy}" if remedy else ""))


class ExportError(WorkbenchError):
    exit_code = 1


class RunError(WorkbenchError):
    """reason: what the runtime said, cleaned; node: name of the ONNX node at fault, if known."""

    exit_code = 1

    def __init__(self, reason: str, *, node: str | None = None) -> None:
        self.reason, self.node = reason, node
        super().__init__((f"node {node}: " if node else "") + f"{reason.rstrip('.')}.")


class ViewError(WorkbenchError):
    pass


class Cancelled(WorkbenchError):
    exit_code = 1


class StoreError(WorkbenchError):
    exit_code = 1


class UnknownEngine(StoreError):
    exit_code = 2


class UnknownRun(StoreError):
    exit_code = 2


class UntrustedEngine(StoreError):
    exit_code = 2
