"""What PyTorch's exporters print and log, kept from the screen and handed to a listener's log."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from workbench.types import LogLine

_CHATTY = ("torch", "onnxscript", "onnx_ir")


@contextlib.contextmanager
def quiet(torch: Any, lines: list[LogLine], told: list[warnings.WarningMessage]) -> Iterator[None]:
    """Keep what is printed and logged inside in `lines` and the warnings in `told`."""
    printed = io.StringIO()
    with (
        _logs_kept(lines),
        _native_kept(torch, printed),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            yield
        finally:
            told += caught
    lines += [LogLine("verbose", line) for line in printed.getvalue().splitlines() if line.strip()]


@contextlib.contextmanager
def _logs_kept(lines: list[LogLine]) -> Iterator[None]:
    """PyTorch gives many of its loggers handlers of their own, so each has to be asked."""

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            severity = "warning" if record.levelno >= logging.ERROR else "verbose"
            lines.append(LogLine(severity, record.getMessage()))

    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _CHATTY]
    loggers = [logging.getLogger(name) for name in {*names, *_CHATTY}]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    keeper = Keeper()
    try:
        for logger in loggers:
            is_root = logger.name in _CHATTY
            logger.handlers, logger.propagate = ([keeper], False) if is_root else ([], True)
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


@contextlib.contextmanager
def _native_kept(torch: Any, printed: io.StringIO) -> Iterator[None]:
    """The classic exporter's native code prints the whole graph when it fails, to a stream that only it chooses."""
    choose_stream = getattr(torch._C, "_jit_set_onnx_log_output_stream", None)
    if choose_stream is None:
        yield
        return
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        screen = os.dup(2)
        try:
            choose_stream("stderr")
            os.dup2(file.fileno(), 2)
            yield
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            choose_stream("stdout")
            file.seek(0)
            printed.write(file.read())
