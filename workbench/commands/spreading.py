"""`--scheduler`: what is done with samples, on the workers of a Dask cluster."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from workbench.calibration.collection import Collection
from workbench.calibration.samples import Samples, Skipped
from workbench.comparison import Comparison
from workbench.contest import Contest
from workbench.contest.accuracy import Elsewhere
from workbench.engine import Engine
from workbench.evaluation import Runs
from workbench.model import Model
from workbench.terminal import Printer


def collect_there(
    options: argparse.Namespace, model: Model, samples: Samples, printer: Printer, cancel: threading.Event
) -> Collection:
    """The same ranges as here, to the end."""
    from workbench.sharding import collect_on
    from workbench.tuning.clusters import open_client

    with open_client(options.scheduler) as client:
        return collect_on(
            client, model, samples, count=options.samples or None, skip=options.skip, budget_bytes=options.budget,
            strict=options.strict, listener=printer, cancel=cancel,
        )  # fmt: skip


@contextmanager
def comparing_there(scheduler: str | None) -> Iterator[Elsewhere | None]:
    """For `accuracy`; None without a scheduler. One that does not answer is told before anything is built."""
    if not scheduler:
        yield None
        return
    from workbench.sharding import Sharding, compare_on
    from workbench.tuning.clusters import open_client

    with open_client(scheduler) as client:

        def compare_there(
            contest: Contest, engines: Mapping[str, Engine], sessions: Mapping[str, Runs], skipped: list[Skipped]
        ) -> Comparison:
            rules = contest.rules
            return compare_on(
                client, engines, sessions, contest.samples, count=rules.samples, batch=rules.batches[0],
                strict=rules.strict, sharding=Sharding(threads=rules.threads), skipped=skipped,
                listener=contest.listener, cancel=contest.cancel,
            )  # fmt: skip

        yield compare_there
