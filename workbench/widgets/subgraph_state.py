"""SubgraphState: everything SubgraphView shows and does, without a browser."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from traitlets import Instance, Int, Tuple, Unicode, observe

from workbench import snippets
from workbench.errors import ShapesNotSet
from workbench.hybrid import CollectedShapes, HybridRun, build_parts, collect_shapes, run_hybrid, usual_samples
from workbench.model import Model
from workbench.picture import Picture
from workbench.picture.figures import partition_picture
from workbench.profiles import default_profile, opt_shapes
from workbench.reference import random_feeds
from workbench.store import EngineStore
from workbench.subgraphs import NodeSupport, Partition, divide, find_support, steps
from workbench.types import BuildConfig, Feeds, OptimizationProfile, Shape
from workbench.widgets.work_state import WorkState

ASKING, COLLECTING, BUILDING = "asking", "collecting", "building"
_RUNS = 10


class SubgraphState(WorkState):
    """A model, the nodes that a back end takes of it, and the subgraphs that min_subgraph_size leaves."""

    min_subgraph_size = Int(3)
    disabled = Unicode(help="operators and nodes that shall stay native, with commas")
    support = Instance(NodeSupport, allow_none=True, help="with open dimensions, as engines are built")
    partition = Instance(Partition, allow_none=True, help="at `shapes`, so that bytes can be counted")
    collected = Instance(CollectedShapes, allow_none=True)
    outcome = Instance(HybridRun, allow_none=True)
    steps: Any = Tuple(help="a Partition for every min_subgraph_size at which something changes, down to no engine")

    def __init__(
        self,
        model: Model,
        backend: str,
        min_subgraph_size: int = 3,
        *,
        profile: OptimizationProfile | None = None,
        samples: Sequence[Feeds] = (),
        store: EngineStore | None = None,
    ) -> None:
        super().__init__()
        self.model, self.backend, self.samples, self.store = model, backend, samples, store
        self._sized: NodeSupport | None = None
        nothing = OptimizationProfile({})
        self.profile = profile or (nothing if samples else default_profile(model.inputs))
        self.min_subgraph_size = min_subgraph_size

    @property
    def has_open_inputs(self) -> bool:
        return any(spec.open_axes for spec in self.model.inputs)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The sizes at which borders are counted and parts are timed: the profile's opt, or the first sample's."""
        if self.samples and not self.profile.ranges:
            return {name: array.shape for name, array in self.samples[0].items()}
        return opt_shapes(self.model.inputs, self.profiles)

    @property
    def profiles(self) -> tuple[OptimizationProfile, ...]:
        return (self.profile,) if self.profile.ranges else ()

    @property
    def disable_ops(self) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.disabled.split(",") if word.strip())

    @property
    def last_size(self) -> int:
        """The smallest min_subgraph_size that leaves no engine."""
        return self.steps[-1].min_subgraph_size if self.steps else 1

    @property
    def picture(self) -> Picture | None:
        if self.partition is None or self._sized is None:
            return None
        return partition_picture(self.partition, self._sized.tensors)

    def ask(self) -> None:
        """Ask the back end for every node, in the background; then the subgraphs follow the slider at once."""
        if self.busy:
            return
        disable_ops = self.disable_ops

        def work(cancel: threading.Event) -> None:
            self._take(
                find_support(self.model, self.backend, disable_ops=disable_ops, listener=self._listen, cancel=cancel)
            )

        self._forget_work()
        self._run(ASKING, work)

    def collect(self) -> None:
        """Run the samples natively and keep the sizes of every tensor; random ones at min, opt and max if there are
        none."""
        if self.busy:
            return

        def work(cancel: threading.Event) -> None:
            feeds = self.samples or usual_samples(self.model, self.profile)
            self.collected = collect_shapes(self.model, feeds, listener=self._listen, cancel=cancel)
            self._count()

        self._forget_work()
        self._run(COLLECTING, work)

    def build(self) -> None:
        """Build an engine for every subgraph, run all parts, and compare with ONNX Runtime alone."""
        if self.busy or self.support is None:
            return
        partition = divide(self.support, self.min_subgraph_size)

        def work(cancel: threading.Event) -> None:
            config = BuildConfig(profiles=self.profiles)
            hybrid = build_parts(
                partition, config, shapes=self.collected, store=self.store, listener=self._listen, cancel=cancel
            )
            feeds = self.samples[0] if self.samples else random_feeds(self.model.inputs, self.shapes)
            self.outcome = run_hybrid(hybrid, feeds, iterations=_RUNS, listener=self._listen, cancel=cancel)

        self._forget_work()
        self._run(BUILDING, work)

    def skip(self) -> None:
        """Leave the subgraph whose sizes are not known native, and build the others."""
        if isinstance(self.error, ShapesNotSet):
            self.min_subgraph_size = self.error.skip_at

    def engines_left(self, size: int) -> int:
        """How many engines this min_subgraph_size would leave."""
        return len(divide(self.support, size).engines) if self.support else 0

    def code(self) -> dict[str, str]:
        """The same partition in Python, for the shell and for Paddle-TRT, by title."""
        wish = snippets.SubgraphWish(
            self.backend, self.min_subgraph_size, self.disable_ops, self.profile, self.collected is not None
        )
        return snippets.subgraph_code(self.model, wish, own_samples=bool(self.samples))

    def _take(self, support: NodeSupport) -> None:
        with self.hold_trait_notifications():
            self.support, self.outcome = support, None
            self._count()

    def _count(self) -> None:
        """Divide at sizes that are known: those of `shapes`, and of tensors that only samples tell, the typical one."""
        if self.support is None:
            return
        sized = self.support.at(self.shapes)
        seen = self.collected.ranges if self.collected else {}
        tensors = {
            name: replace(item, shape=seen[name].opt) if item.bytes is None and name in seen else item
            for name, item in sized.tensors.items()
        }
        self._sized = replace(sized, tensors=tensors)
        with self.hold_trait_notifications():
            self.steps = steps(self._sized)
            self.partition = divide(self._sized, self.min_subgraph_size)

    @observe("min_subgraph_size")
    def _moved(self, change: Any) -> None:
        if self._sized is not None:
            with self.hold_trait_notifications():
                self.partition = divide(self._sized, self.min_subgraph_size)
                self.outcome = None
                if not self.busy:
                    self.error = None
