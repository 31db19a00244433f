"""A PyTorch module as the exporters need it: flat inputs and outputs, at rest on the processor."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from workbench.errors import ConfigError, ExportError

ROOT = "module"
"""The attribute under which the exporters see the user's module; it stands in the names they give."""


def import_torch() -> Any:
    """The module torch. Raises ExportError that says how to install it; nothing of the workbench imports it before."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ExportError(
            f"PyTorch is not installed ({error}): run `make lab`, which installs it, "
            'or `pip install "tensorrt-workbench[torch]"`.'
        ) from error


@dataclass(frozen=True)
class Inputs:
    """What a module is called with. tensors: on the processor, in the ONNX's order.

    parameters: forward's names for them; names: the ONNX's. by_name: whether they are passed as keywords.
    """

    tensors: tuple[Any, ...]
    parameters: tuple[str, ...]
    names: tuple[str, ...]
    by_name: bool

    def call(self, module: Any, tensors: Sequence[Any]) -> Any:
        if self.by_name:
            return module(**dict(zip(self.parameters, tensors, strict=True)))
        return module(*tensors)


def read_example(module: Any, example: Any, input_names: Sequence[str] | None) -> Inputs:
    """The example as Inputs. Raises ConfigError for anything but tensors, unknown arguments, or names that clash."""
    torch = import_torch()
    by_name = isinstance(example, Mapping)
    if isinstance(example, torch.Tensor):
        example = (example,)
    if not isinstance(example, (Mapping, tuple, list)) or not example:
        raise ConfigError(
            f"the example is {_kind(example)}; give a tensor, a tuple of tensors, "
            "or a dict of tensors by the names of forward's arguments."
        )
    values = tuple(example.values()) if isinstance(example, Mapping) else tuple(example)
    parameters = tuple(example) if isinstance(example, Mapping) else _positional(module, len(values))
    for name, value in zip(parameters, values, strict=True):
        if not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"argument {name} of the example is {_kind(value)}; only tensors become inputs of the ONNX model. "
                "Leave it out if it has a default, or wrap the module in one that sets it."
            )
    if by_name:
        _check_arguments(module, parameters)
    names = tuple(input_names) if input_names is not None else parameters
    if len(names) != len(values) or len(set(names)) != len(names) or not all(names):
        raise ConfigError(
            f"input_names {list(names)}: give {len(values)} different names, one for each of {', '.join(parameters)}."
        )
    tensors = tuple(value.detach().cpu() for value in values)
    return Inputs(tensors, parameters, names, by_name)


def _positional(module: Any, count: int) -> tuple[str, ...]:
    """forward's names for its first arguments, 'xs_0' and so on for *xs."""
    names: list[str] = []
    for item in _signature(module):
        if item.kind is item.VAR_POSITIONAL:
            names += [f"{item.name}_{index}" for index in range(count - len(names))]
        elif item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD):
            names.append(item.name)
    if len(names) < count:
        raise ConfigError(f"the example has {count} tensors, but forward takes {len(names)}: {', '.join(names)}.")
    return tuple(names[:count])


def _check_arguments(module: Any, given: Sequence[str]) -> None:
    known = _signature(module)
    if any(item.kind is item.VAR_KEYWORD for item in known):
        return
    unknown = [name for name in given if name not in {item.name for item in known}]
    if unknown:
        names = ", ".join(item.name for item in known)
        raise ConfigError(f"forward has no argument {unknown[0]!r}; it takes {names}.")


def _signature(module: Any) -> tuple[inspect.Parameter, ...]:
    schema = getattr(module.forward, "schema", None)  # of TorchScript
    if schema is not None:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return tuple(inspect.Parameter(item.name, kind) for item in schema.arguments[1:])
    return tuple(inspect.signature(module.forward).parameters.values())


def flatten(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The tensors in what a module returns, each with a name made of keys and indices; None is left out.

    Raises ExportError for anything that is not a tensor.
    """
    torch = import_torch()
    if isinstance(value, torch.Tensor):
        return [(path or "output", value)]
    if value is None:
        return []
    items: list[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = list(value.items())
    elif hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, (tuple, list)):
        items = [(index if path else f"output_{index}", item) for index, item in enumerate(value)]
    elif is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in fields(value)]
    else:
        where = f"output {path}" if path else "the output"
        raise ExportError(
            f"{where} of the module is {_kind(value)}; return tensors, or wrap the module in one that does."
        )
    return [found for key, item in items for found in flatten(item, f"{path}_{key}" if path else str(key))]


def adapter(module: Any, inputs: Inputs) -> Any:
    """A torch module that calls the user's with flat tensors and returns a flat tuple of tensors."""
    torch = import_torch()

    class Adapter(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.add_module(ROOT, module)
            self.training = False

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            return tuple(tensor for _, tensor in flatten(inputs.call(getattr(self, ROOT), tensors)))

    return Adapter()


@contextlib.contextmanager
def at_rest(module: Any) -> Iterator[None]:
    """The module in eval mode, on the processor, without gradients; afterwards as it was, its buffers included."""
    torch = import_torch()
    flags = {part: part.training for part in module.modules()}
    places = {tensor: tensor.device for tensor in (*module.parameters(), *module.buffers())}
    buffers = [(part, name, tensor) for part in flags for name, tensor in part.named_buffers(recurse=False)]
    contents = [tensor.detach().clone() for _, _, tensor in buffers]
    try:
        _train(module, False)
        for tensor in places:
            tensor.data = tensor.data.cpu()
        with torch.no_grad():
            yield
    finally:
        for tensor, device in places.items():
            tensor.data = tensor.data.to(device)
        with torch.no_grad():
            for (part, name, tensor), content in zip(buffers, contents, strict=True):
                tensor.copy_(content)
                if getattr(part, name) is not tensor and not isinstance(part, torch.jit.ScriptModule):
                    setattr(part, name, tensor)
        _train(module, flags[module])
        for part, flag in flags.items():
            part.training = flag


def _train(module: Any, mode: bool) -> None:
    """Through `train`, which some modules override; those of torch.export refuse it and have no modes."""
    with contextlib.suppress(NotImplementedError):
        module.train(mode)


def answer(module: Any, inputs: Inputs, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What the module answers, by output name. Whatever it raises comes through; ExportError for bfloat16."""
    torch = import_torch()
    tensors = [torch.from_numpy(np.array(array)) for array in arrays]
    found = flatten(inputs.call(module, tensors))
    for name, tensor in found:
        if tensor.dtype == torch.bfloat16:
            raise ExportError(
                f"output {name} of the module is bfloat16, which NumPy has not: return it as {name}.float()."
            )
    return {name: tensor.detach().numpy().copy() for name, tensor in found}


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
