"""Which workers of a Dask cluster a crew may use, and why not the others."""

from __future__ import annotations

from workbench.tuning.dask_worker import Introduction
from workbench.tuning.ground import Ground


class Members:
    """met: those that have introduced themselves. refused: why others cannot be used, in words that go on after the
    address. busy: not usable at this moment, as a work that was dropped still has to end there. untold: sentences for
    the user."""

    def __init__(self) -> None:
        self.present: frozenset[str] = frozenset()
        self.met: dict[str, Introduction] = {}
        self.refused: dict[str, str] = {}
        self.busy: set[str] = set()
        self.untold: list[str] = []
        self.grounds: dict[str, Ground] = {}

    @property
    def are_asked(self) -> bool:
        """Whether there are some that have not answered yet."""
        return bool(self.present - self.met.keys() - self.refused.keys())

    @property
    def are_all_refused(self) -> bool:
        return bool(self.present) and self.refused.keys() == self.present

    @property
    def refusals(self) -> str:
        return "; ".join(f"worker {name} {why}" for name, why in self.refused.items()) + "."

    def see(self, workers: frozenset[str]) -> None:
        """All that are there now."""
        self.present = workers
        for known in (self.met, self.refused):
            for worker in known.keys() - workers:
                del known[worker]
        self.busy &= workers
        self._count()

    def meet(self, worker: str, answer: Introduction | str) -> None:
        """answer: why it cannot be used, where that is a string."""
        if worker not in self.present:
            return
        if isinstance(answer, str):
            if self.refused.get(worker) != answer:
                self.untold.append(f"worker {worker} {answer}.")
            self.refused[worker] = answer
            self.met.pop(worker, None)
        else:
            self.refused.pop(worker, None)
            self.met[worker] = answer
        self._count()

    def hold(self, worker: str) -> None:
        """Until it is let go."""
        self.busy.add(worker)
        self._count()

    def let_go(self, worker: str) -> None:
        self.busy.discard(worker)
        self._count()

    def forget(self, worker: str) -> None:
        """Another one has its address now."""
        self.met.pop(worker, None)
        self._count()

    def _count(self) -> None:
        self.grounds = {name: self.met[name].ground for name in sorted(self.met) if name not in self.busy}
