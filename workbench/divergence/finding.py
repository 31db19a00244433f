"""Where two engines of one model start to differ."""

from __future__ import annotations

import threading

import numpy as np

from workbench.accuracy import compare_outputs
from workbench.divergence.exposing import Network, Workshop
from workbench.divergence.plans import Place
from workbench.divergence.result import THRESHOLD, Divergence, Side, TensorError
from workbench.divergence.seeing import Looker, Seen
from workbench.engine import Engine
from workbench.model import Model
from workbench.store import EngineStore
from workbench.types import Feeds, Listener, Progress, count_of, ignore

PHASE = "Looking into the engines"


def find_divergence(
    first: Engine,
    second: Engine,
    model: Model,
    feeds: Feeds,
    *,
    every_tensor: bool = False,
    threshold: float = THRESHOLD,
    store: EngineStore | None = None,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Divergence:
    """Run both on the same feeds and compare the tensors between their kernels, in the model's order.

    Both engines are of `model`; their back ends may differ. By default only tensors are looked at that both write
    anyway, and their fusion stays as it is: a plan of ONNX Runtime gives them out as it stands; of NVIDIA's engines one
    with more outputs is built, and its kernels are compared with the original's. every_tensor: both are built with all
    the model's tensors as outputs, which changes their fusion; the warnings say by how much. threshold: the relative
    error from which on a tensor diverges. store: where such engines are built and kept. All tensors that are looked at
    lie in memory at once.

    Raises ConfigError for an engine of another model, BackendError for one that cannot run here, FeedError, Cancelled,
    and what `build` raises.
    """
    network = Network(model)
    lookers = [Looker(engine, network) for engine in (first, second)]
    shop = Workshop(store or EngineStore(), listener, cancel)
    seen = []
    for done, looker in enumerate(lookers):
        shop.check()
        listener(Progress(PHASE, done, len(lookers)))
        if every_tensor:
            seen.append(looker.look_at_all(feeds, shop))
        else:
            both = [name for name in network.tensors if all(name in item.places for item in lookers)]
            seen.append(looker.look(both, feeds, shop))
    listener(Progress(PHASE, len(lookers), len(lookers)))
    return compare_tensors(network, seen[0], seen[1], threshold=threshold, every_tensor=every_tensor)


def compare_tensors(
    model: Model | Network, first: Seen, second: Seen, *, threshold: float = THRESHOLD, every_tensor: bool = False
) -> Divergence:
    """As find_divergence, of tensors that were come by in any other way: by the hooks of a framework, or from a model
    with other weights. Tensors of different shapes are left out, and a note names them."""
    network = model if isinstance(model, Network) else Network(model)
    both = [name for name in network.tensors if name in first.values and name in second.values]
    numbers = [name for name in both if all(_is_number(item.values[name]) for item in (first, second))]
    shown = [name for name in numbers if np.shape(first.values[name]) == np.shape(second.values[name])]
    return Divergence(
        model=network.model.name,
        titles=(first.title, second.title),
        precisions=(first.precision, second.precision),
        total=len(network.tensors),
        tensors=_errors(network, shown, first, second),
        threshold=threshold,
        every_tensor=every_tensor,
        notes=(*first.notes, *second.notes, *_left_out(numbers, shown)),
        warnings=(*first.warnings, *second.warnings),
    )


def _is_number(array: np.ndarray) -> bool:
    return np.asarray(array).dtype.kind not in "OSU"


def _left_out(both: list[str], shown: list[str]) -> list[str]:
    apart = [name for name in both if name not in set(shown)]
    if not apart:
        return []
    return [
        f"left out, as their shapes are not the same in both: {count_of(len(apart), 'tensor')}, such as {apart[0]}."
    ]


def _errors(network: Network, names: list[str], first: Seen, second: Seen) -> tuple[TensorError, ...]:
    graph, given = network.graph, set(names)
    found: dict[str, TensorError] = {}
    for name in names:
        maker = graph.producers[name]
        nodes = [node for node in graph.needed_for([name], given) if node not in graph.sizes or node == maker.name]
        reads = dict.fromkeys(tensor for node in nodes for tensor in graph.by_name[node].inputs)
        sources = tuple(tensor for tensor in reads if tensor in found)
        (difference,) = compare_outputs({name: first.values[name]}, {name: second.values[name]})
        found[name] = TensorError(
            tensor=name,
            node=maker.name,
            operator=maker.op_type,
            relative=difference.relative,
            max_abs=difference.max_abs,
            sources=sources,
            nodes=tuple(nodes),
            before=max((found[source].relative for source in sources), default=0.0),
            first=_side(first.values[name], first.places.get(name)),
            second=_side(second.values[name], second.places.get(name)),
        )
    return tuple(found.values())


def _side(array: np.ndarray, place: Place | None) -> Side:
    values = np.asarray(array, np.float64)
    usable = np.isfinite(values)
    largest = float(np.max(np.abs(values[usable]), initial=0.0))
    dtype = (place.dtype if place else "") or array.dtype.name
    return Side(place.layer if place else "", dtype, largest, int(values.size - usable.sum()))
