"""DataState: what a calibration is fed with: a model, its data, how pictures become its input, the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from traitlets import Any, Dict, Tuple, Unicode, observe

from workbench.calibration.samples import Samples, open_samples
from workbench.errors import ConfigError, WorkbenchError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.store import EngineStore
from workbench.types import Feeds
from workbench.widgets.preprocessing_fields import fields_of, read_fields
from workbench.widgets.preview import Preview, preview
from workbench.widgets.shape_state import ShapeState

Data = str | Path | Iterable[Feeds] | Mapping[str, np.ndarray]


class DataState(ShapeState):
    """The traits are what the user changes and what was found there."""

    data = Unicode(help="a folder of pictures, arrays, a data set; '' where the program gave arrays")
    data_error = Unicode()
    samples: Any = Any(None, help="the opened Samples")
    fields = Dict(help="the preprocessing as typed, by the name of its field; empty where the data are no pictures")
    field_error = Unicode()
    shown = Tuple(help="a Preview of each of the first samples")

    def __init__(self, store: EngineStore | None = None) -> None:
        self._source: Data | None = None
        self._found: Preprocessing | None = None
        super().__init__(store)

    def open_data(self, source: Data) -> None:
        """Take other data; what cannot be read leaves its reason in `data_error`. Raises as `about_to_change`."""
        self.about_to_change()
        if isinstance(source, str | Path):
            source = str(source).strip()
        elif not isinstance(source, Mapping) and not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
            source = list(source)  # it is opened again when the model changes
        self._source, self.data = source, source if isinstance(source, str) else ""
        self._open(None)

    def edit_field(self, name: str, text: str) -> None:
        """Change one field of the preprocessing; a mistake goes to `field_error`."""
        if not self.fields or self.fields.get(name) == text:
            return
        self.about_to_change()
        self.fields = {**self.fields, name: text}
        assert self._found is not None
        try:
            self._open(read_fields(self.fields, self._found))
        except ConfigError as error:
            self._forget(field_error=str(error))

    def as_found(self) -> None:
        """Undo what was typed into the fields."""
        self.about_to_change()
        self._open(None)

    @property
    def stated(self) -> Preprocessing | None:
        """The preprocessing where it was changed by hand."""
        how = self.samples.preprocessing if self.samples is not None else None
        return how if how != self._found else None

    def _open(self, how: Preprocessing | None) -> None:
        if not self._source or self.model is None:
            self._forget(fields={})
            return
        try:
            samples = self._opened(self.model, self._source, how)
        except WorkbenchError as error:
            self._forget(**({"field_error": str(error)} if how else {"data_error": str(error), "fields": {}}))
            return
        if how is None:
            self._found = samples.preprocessing
        with self.hold_trait_notifications():
            self.samples, self.data_error, self.field_error = samples, "", ""
            self.fields = fields_of(samples.preprocessing) if samples.preprocessing else {}
            self.shown = self._previews(samples)

    def _opened(self, model: Model, source: Data, how: Preprocessing | None) -> Samples:
        return open_samples(source, model, how)

    def _previews(self, samples: Samples) -> tuple[Preview, ...]:
        try:
            return preview(samples)
        except WorkbenchError as error:
            self.data_error = str(error)
            return ()

    def _forget(self, **traits: object) -> None:
        with self.hold_trait_notifications():
            self.samples, self.shown, self.data_error, self.field_error = None, (), "", ""
            for name, value in traits.items():
                setattr(self, name, value)

    @observe("model")
    def _model_changed(self, change: object) -> None:
        self._open(None)
