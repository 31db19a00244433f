"""Who takes part: back ends by precision, and Paddle itself; built and opened, or left out with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from workbench import backends
from workbench.backends import Session
from workbench.building import build
from workbench.contest.rules import PADDLE, Contest, Entrant
from workbench.contest.source import Source
from workbench.engine import open_engine
from workbench.errors import BackendError, Cancelled, ConfigError, WorkbenchError
from workbench.export.paddle_session import paddle_session
from workbench.study import Subject
from workbench.types import PRECISIONS, BuildConfig, Calibration, Feeds, OptimizationProfile


def entrants(names: Sequence[str] = (), precisions: Sequence[str] = ()) -> tuple[Entrant, ...]:
    """Every back end with every precision, in this order; the first back end that can run here and fp32 if not named.

    Raises ConfigError for names that are none.
    """
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ConfigError(f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    for name in names:
        if name not in (*backends.NAMES, PADDLE):
            known = ", ".join((*backends.NAMES, PADDLE))
            raise ConfigError(f"there is no back end {name!r}; choose one of {known}.")
    found: list[Entrant] = []
    for name in names or (_first_runner(),):
        found += [Entrant(name)] if name == PADDLE else [Entrant(name, item) for item in precisions or ("fp32",)]
    return tuple(dict.fromkeys(found))


def usual_precisions(source: Source, calibration: Calibration | None) -> tuple[str, ...]:
    """fp32, and int8 where the model or a calibration tells ranges."""
    return ("fp32", "int8") if source.model.is_quantized or calibration else ("fp32",)


def check_entrants(contest: Contest) -> None:
    """Raise ConfigError for mistakes that concern all of them, before anything is built."""
    source, calibration = contest.source, contest.rules.calibration
    precisions = {item.precision for item in contest.entrants}
    if not contest.entrants:
        raise ConfigError("there is nothing to measure: name a back end.")
    if any(item.backend == PADDLE for item in contest.entrants) and source.paddle is None:
        raise ConfigError(
            f"paddle runs models of its own, and {source.model.path} is ONNX: name the folder of the Paddle model."
        )
    if calibration and "int8" not in precisions:
        raise ConfigError("a calibration serves int8 only: add int8 to the precisions, or leave the calibration out.")
    if "int8" in precisions and calibration is None and not source.model.is_quantized:
        raise ConfigError(
            f"int8 needs the range of every activation, and {source.model.name} brings none along: name a calibration, "
            "such as `workbench calibrate` makes."
        )


def needs_profile(entrant: Entrant) -> bool:
    """Whether it is built for sizes that must be told beforehand."""
    return entrant.backend != PADDLE and not backends.load(entrant.backend).support().takes_any_shape


@dataclass
class Field:
    """Those that are open, by name, in order. failures: why one is missing, in a sentence."""

    sessions: dict[str, Session] = field(default_factory=dict)
    subjects: dict[str, Subject] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@contextmanager
def opened(contest: Contest, profile: OptimizationProfile | None, feeds: Feeds) -> Iterator[Field]:
    """Build or reuse the engines, open all, and run each once on `feeds`. profile: of the sizes that are to come.

    One that cannot is left out. Where none is left, raises the error that all have, or BackendError with all reasons.
    """
    found, errors = Field(), list[WorkbenchError]()
    with ExitStack() as stack:
        for entrant in contest.entrants:
            name = str(entrant)
            try:
                session, subject = _open(entrant, contest, profile)
                stack.enter_context(session)
                session.run(feeds)
            except Cancelled:
                raise
            except WorkbenchError as error:
                found.failures[name] = str(error)
                errors.append(error)
                continue
            found.sessions[name], found.subjects[name] = session, subject
        if not found.sessions:
            shared = len(set(map(str, errors))) == 1
            reasons = " ".join(f"{name}: {reason.rstrip('.')}." for name, reason in found.failures.items())
            raise errors[0] if shared else BackendError(reasons)
        yield found


def _open(entrant: Entrant, contest: Contest, profile: OptimizationProfile | None) -> tuple[Session, Subject]:
    if entrant.backend == PADDLE:
        return _open_paddle(contest), Subject(str(entrant), PADDLE, "")
    rules = contest.rules
    here = backends.load(entrant.backend).support()
    if not here.can_run:
        raise BackendError(f"it cannot run here: {here.run_reason}")
    config = BuildConfig(
        entrant.precision,
        profiles=() if profile is None else (profile,),
        calibration=rules.calibration if entrant.precision == "int8" else None,
    )
    model = contest.source.model
    engine = build(model, config, entrant.backend, listener=contest.listener, cancel=contest.cancel).engine
    subject = Subject(str(entrant), engine.backend, engine.precision, engine, engine.build_s, engine.plan_bytes)
    return open_engine(engine, threads=rules.threads, in_turns=True), subject


def _open_paddle(contest: Contest) -> Session:
    source, rules = contest.source, contest.rules
    assert source.paddle is not None  # check_entrants
    return paddle_session(
        source.paddle.program,
        model=source.model,
        threads=rules.threads,
        make_environment=rules.make_environment,
        listener=contest.listener,
        cancel=contest.cancel,
    )


def _first_runner() -> str:
    for name, support in backends.available().items():
        if support.can_build and support.can_run:
            return name
    raise BackendError("no back end can run engines on this machine.")
