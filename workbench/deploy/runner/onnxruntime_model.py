"""The optimized ONNX file of an engine of ONNX Runtime's."""

from __future__ import annotations

from pathlib import Path

from workbench.deploy.runner.arrays import (
    Arrays,
    Facts,
    Failure,
    check_names,
    fitted,
    host_times_ms,
    load_package,
    read_facts,
    types_of,
)

HERE = Path(__file__).resolve().parent
OPTION = ("--threads", 0, "processors that one run may use (default: all)")


def open_model(folder: str | Path = HERE, threads: int = 0) -> OnnxModel:
    """The model of a hand-over folder. threads: processors one run may use; 0 for all."""
    return OnnxModel(read_facts(Path(folder)), Path(folder), threads)


class OnnxModel:
    clock = "perf_counter around InferenceSession.run, arrays on the host in and out"

    def __init__(self, facts: Facts, folder: Path, threads: int) -> None:
        runtime, plan = load_package("onnxruntime", facts), str(folder / facts["plan"])
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL  # the file is optimized
        try:
            self._session = runtime.InferenceSession(plan, options, providers=facts["providers"])
        except Exception as error:  # its exceptions have no common base but Exception
            raise Failure(f"ONNX Runtime {runtime.__version__} cannot open {plan}: {error}") from error
        if self._session.get_providers()[0] != facts["providers"][0]:
            raise Failure(f"ONNX Runtime cannot use {facts['providers'][0]} here. Install it: {facts['install']}")
        self._types = types_of(facts, "inputs")
        self._names = [item.name for item in self._session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        check_names(self._types, feeds)
        arrays = {name: fitted(name, feeds[name], dtype) for name, dtype in self._types.items()}
        try:
            values = self._session.run(self._names, arrays)
        except Exception as error:  # its exceptions have no common base but Exception
            raise Failure(f"ONNX Runtime fails on these arrays: {error}") from error
        return dict(zip(self._names, values, strict=True))

    def times_ms(self, feeds: Arrays, count: int) -> list[float]:
        return host_times_ms(self, feeds, count)

    def __enter__(self) -> OnnxModel:
        return self

    def __exit__(self, *error: object) -> None:
        del self._session
