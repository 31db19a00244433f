"""The tensors between the kernels of an engine, seen while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from workbench import backends
from workbench.backends import Session
from workbench.backends.device_arrays import numpy_dtype
from workbench.divergence.exposing import (
    FusionChange,
    Network,
    Workshop,
    build_exposed,
    build_harmless,
    fusion_of,
    places_by_nodes,
    places_in_layers,
)
from workbench.divergence.plans import Place, places_in_plan, read_plan, write_copy
from workbench.engine import Engine, open_engine, verify
from workbench.errors import BackendError, ConfigError
from workbench.types import Feeds

_IN_PLAN = "a copy of its plan gives its tensors out, with the fusion as it is."
_AS_IT_IS = "it runs as it is, as only the model's own outputs are looked at."


@dataclass(frozen=True)
class Seen:
    """What was seen of a network while it ran: an engine, or anything else that gives tensors by the model's names.

    title: whose tensors they are. precision: what it computes in, '' if that is not known. places: where each tensor
    lies. notes: how they were come by. warnings: why they may be others than those of the engine.
    """

    title: str
    values: Feeds
    precision: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Looker:
    """Looks into one engine. Raises ConfigError for one of another model, BackendError for one that cannot run here."""

    def __init__(self, engine: Engine, network: Network) -> None:
        self.engine, self.network = engine, network
        self.title = f"{engine.precision} on {engine.backend} {engine.release}"
        what = f"{engine.model_name} {self.title} ({engine.key[:8]})"
        if engine.recipe["model"] != network.model.sha256:
            raise ConfigError(f"{what} was built from another model than {network.model.name}; give its own.")
        here = backends.load(engine.backend).support()
        if not here.can_run:
            raise BackendError(f"{what} cannot be looked into here: {here.run_reason}")
        verify(engine)

    @cached_property
    def _plan(self) -> Any:
        return read_plan(self.engine)

    @cached_property
    def places(self) -> dict[str, Place]:
        """The tensors that the engine keeps between its kernels, and the model's outputs."""
        if self.engine.backend == "onnxruntime":
            return places_in_plan(self.engine, self._plan, self.network.model, self.network.types)
        outputs = [spec.name for spec in self.network.model.outputs if spec.name in self.network.graph.producers]
        fusion = fusion_of(self.engine, self.network)
        return {**places_by_nodes(fusion, outputs), **places_in_layers(fusion)}

    def look(self, names: Sequence[str], feeds: Feeds, shop: Workshop) -> Seen:
        """At tensors that the engine keeps anyway, with the fusion as it is.

        Those whose exposure would change the fusion are left out, if that helps; else a warning says so.
        """
        if self.engine.backend == "onnxruntime":
            return self._seen(self._run_plan({name: self.places[name] for name in names}, feeds, shop), _IN_PLAN)
        if not self.network.inner(names):
            return self._seen(_run(open_engine(self.engine), feeds, names), _AS_IT_IS)
        engine, change, left = build_harmless(self.engine, self.network, names, shop)
        apart = len(names) - len(left)
        note = f"{apart} of {len(names)} tensors are left out, as exposing them changed the fusion; " if apart else ""
        return self._seen(_run(open_engine(engine), feeds, left), change, note)

    def look_at_all(self, feeds: Feeds, shop: Workshop) -> Seen:
        """At all tensors of the model, in an engine that has them as outputs."""
        names = self.network.tensors
        engine, change = build_exposed(self.engine, self.network, names, shop)
        if engine.backend == "onnxruntime":
            places = places_in_plan(engine, read_plan(engine), self.network.model, self.network.types)
            places = {name: places.get(name, Place("")) for name in names}
        else:
            places = places_by_nodes(fusion_of(engine, self.network), names)
        return self._seen(_run(open_engine(engine), feeds, names), change, places=places)

    def _run_plan(self, places: Mapping[str, Place], feeds: Feeds, shop: Workshop) -> dict[str, np.ndarray]:
        with shop.folder() as folder:
            path, names = write_copy(self.engine, self._plan, places, folder)
            session = backends.load(self.engine.backend).open(path, self.engine.config)
            values = _run(session, feeds, list(names.values()))
        return {tensor: values[name] for tensor, name in names.items()}

    def _seen(
        self,
        values: Feeds,
        how: FusionChange | str,
        note: str = "",
        *,
        places: Mapping[str, Place] | None = None,
    ) -> Seen:
        told = f"{self.title}: {note}{how}"
        changed = isinstance(how, FusionChange) and how.is_change
        places = self.places if places is None else places
        return Seen(
            title=self.title,
            values=values,
            precision=self.engine.precision,
            places={name: places[name] for name in values if name in places},
            notes=() if changed else (told,),
            warnings=(told,) if changed else (),
        )


def _run(session: Session, feeds: Feeds, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The feeds are the model's; an engine whose inputs were converted gets them rounded."""
    with session:
        dtypes = {spec.name: spec.dtype for spec in session.inputs}
        given = {name: _rounded(np.asarray(array), dtypes.get(name, "")) for name, array in feeds.items()}
        outputs = session.run(given)
        return {name: np.array(outputs[name]) for name in names if name in outputs}


def _rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    halved = array.dtype == np.float32 and dtype in ("float16", "bfloat16")
    return array.astype(numpy_dtype(dtype)) if halved else array
