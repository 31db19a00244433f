"""What can be measured of a model: what the notebook gave, engines to build or reuse, stored ones, baselines."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from workbench import backends
from workbench.baselines import Baseline, onnxruntime_baseline
from workbench.building import Built, build
from workbench.engine import Engine
from workbench.errors import BackendError, UnknownEngine, WorkbenchError
from workbench.model import Model
from workbench.store import EngineStore
from workbench.study import Contestant
from workbench.types import BuildConfig, Calibration, Listener, OptimizationProfile, Support

GIVEN, BUILD, STORED, BASELINE = "given", "build", "stored", "baseline"
NOTEBOOK_ROW, STORE_ROW, BASELINE_ROW, ELSEWHERE_ROW = "Yours", "In the store", "Baselines", "Not here"
PLAIN = "plain ONNX Runtime"
_PLAIN_NOTE = "the ONNX file as it is, with ONNX Runtime's own choice of options"
_NEEDS_RANGES = "int8 needs the range of every activation: name a collection or a table under Sizes and ranges."


@dataclass(frozen=True)
class Candidate:
    """Something to measure.

    name: what tables call it, no two alike. label: of its button. row: the form's row it stands in. kind: one of
    GIVEN, BUILD, STORED, BASELINE. engine: the key, where the store has it. reason: why it cannot be measured here, in
    a sentence; '' where it can. note: what to know about it.
    """

    name: str
    label: str
    row: str
    kind: str
    backend: str = ""
    precision: str = ""
    engine: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Offer:
    """What candidates follow from. engines: the stored ones of this model. calibration: a path, for int8; '' for none.
    given: what the notebook gave, by name."""

    model: Model
    profile: OptimizationProfile
    supports: Mapping[str, Support]
    engines: Sequence[Engine] = ()
    given: Mapping[str, Contestant] | None = None
    calibration: str = ""

    def config(self, backend: str, precision: str) -> BuildConfig:
        """What is built for a back end and a precision."""
        wants_profile = self.profile.ranges and not self.supports[backend].takes_any_shape
        wants_ranges = precision == "int8" and self.calibration and not self.model.is_quantized
        return BuildConfig(
            precision,
            profiles=(self.profile,) if wants_profile else (),
            calibration=Calibration(self.calibration) if wants_ranges else None,
        )


def candidates(offer: Offer) -> tuple[Candidate, ...]:
    """All of them, those that cannot be measured here too, in the order of the form."""
    builds = list(_builds(offer))
    reused = {item.engine for item in builds if item.engine}
    found = [
        *_given(offer),
        *(item for item in builds if item.row != ELSEWHERE_ROW),
        *(_stored(engine, offer) for engine in offer.engines if engine.key not in reused),
        Candidate(PLAIN, PLAIN, BASELINE_ROW, BASELINE, "onnxruntime", "fp32", note=_PLAIN_NOTE),
        *(item for item in builds if item.row == ELSEWHERE_ROW),
    ]
    taken: set[str] = set()
    unique = []
    for item in found:
        name = item.name
        while name in taken:
            name += " (workbench)"
        taken.add(name)
        unique.append(replace(item, name=name))
    return tuple(unique)


def _given(offer: Offer) -> Iterator[Candidate]:
    for name, contestant in (offer.given or {}).items():
        engine = contestant.engine if isinstance(contestant, Built) else contestant
        if isinstance(engine, Engine):
            yield Candidate(
                name, name, NOTEBOOK_ROW, GIVEN, engine.backend, engine.precision, engine.key,
                reason=_why_not(engine, offer), note=f"{offer.supports[engine.backend].title} {engine.precision}",
            )  # fmt: skip
        else:
            yield Candidate(name, name, NOTEBOOK_ROW, GIVEN, precision=getattr(engine, "precision", ""))


def _builds(offer: Offer) -> Iterator[Candidate]:
    """Every precision of the back ends that run here; the other back ends once, with their reason."""
    for backend, support in offer.supports.items():
        reason = support.run_reason if not support.can_run else support.build_reason
        if reason:
            yield Candidate(support.title, support.title, ELSEWHERE_ROW, BUILD, backend, reason=reason)
            continue
        notes, reasons = support.precision_notes or {}, support.precision_reasons or {}
        for precision in (*support.precisions, *reasons):
            engine, problem = _look_up(offer, backend, precision)
            yield Candidate(
                f"{support.title} {precision}", precision, support.title, BUILD, backend, precision, engine,
                reason=reasons.get(precision, problem), note=notes.get(precision, ""),
            )  # fmt: skip


def _look_up(offer: Offer, backend: str, precision: str) -> tuple[str, str]:
    """The key of the stored engine that a build would reuse, as far as its configuration tells, and why it cannot be
    built; either may be ''."""
    if precision == "int8" and not offer.calibration and not offer.model.is_quantized:
        return "", _NEEDS_RANGES
    try:
        wanted = backends.load(backend).resolve(offer.model, offer.config(backend, precision))
    except WorkbenchError as error:
        return "", str(error)
    release = offer.supports[backend].release
    for engine in offer.engines:
        if (engine.backend, engine.release) == (backend, release) and engine.config == wanted:
            return engine.key, ""
    return "", ""


def _stored(engine: Engine, offer: Offer) -> Candidate:
    support = offer.supports[engine.backend]
    name = f"{support.title} {engine.precision} · {engine.key[:8]}"
    note = f"{support.title} {engine.release}, built on {engine.built_at[:10]}"
    return Candidate(
        name, name, STORE_ROW, STORED, engine.backend, engine.precision, engine.key,
        reason=_why_not(engine, offer), note=note,
    )  # fmt: skip


def _why_not(engine: Engine, offer: Offer) -> str:
    """Why an engine cannot be measured here beside the others, or ''."""
    support = offer.supports[engine.backend]
    if not support.can_run:
        return support.run_reason
    if not engine.config.keep_io_types:
        return "its inputs were converted (convert-io), so it does not run on the arrays that the others run on."
    return ""


def usual_choice(found: Sequence[Candidate]) -> tuple[str, ...]:
    """Names to begin with: all that the notebook gave; else the first engine that runs here, and a baseline."""
    able = [item for item in found if not item.reason]
    given = tuple(item.name for item in able if item.kind == GIVEN)
    engines = tuple(item.name for item in able if item.kind == BUILD)[:1]
    return given or (*engines, *(item.name for item in able if item.kind == BASELINE))


def model_of(contestants: Mapping[str, Contestant]) -> str:
    """Path of the model that the first engine among them was built from; '' where there is none."""
    found = (item.engine if isinstance(item, Built) else item for item in contestants.values())
    return next((item.model_path for item in found if isinstance(item, Engine)), "")


def engines_of(model: Model, store: EngineStore) -> tuple[Engine, ...]:
    """The stored engines of this very content, the last used first."""
    return tuple(engine for engine in store.engines() if engine.recipe["model"] == model.sha256)


def plain_session(model: Model) -> Baseline:
    """Raises BackendError where ONNX Runtime does not open the file."""
    try:
        return onnxruntime_baseline(model)
    except WorkbenchError:
        raise
    except Exception as error:  # its exceptions have no common base but Exception
        told = str(error).strip().split("\n")[0].rstrip(".")
        raise BackendError(f"{PLAIN} does not open {model.name}: {told}.") from error


def obtain(
    candidate: Candidate, offer: Offer, store: EngineStore, listener: Listener, cancel: threading.Event
) -> Contestant:
    """What `workbench.study` measures. Raises what building raises, and UnknownEngine for one that was removed."""
    if candidate.kind == GIVEN:
        return (offer.given or {})[candidate.name]
    if candidate.kind == BASELINE:
        return plain_session(offer.model)
    if candidate.kind == STORED:
        for engine in offer.engines:
            if engine.key == candidate.engine:
                return engine
        raise UnknownEngine(f"{candidate.name}: the engine was removed from the store meanwhile; choose another.")
    config = offer.config(candidate.backend, candidate.precision)
    return build(offer.model, config, candidate.backend, store=store, listener=listener, cancel=cancel)
