"""Session -> Measurement: raw times, the clock that took them, and what the machine did meanwhile.

measure(session, feeds)             one session, warmed up until its times settle
measure_together(sessions, feeds)   several in turns; results whose intervals overlap are not ranked
"""

from workbench.timing.measurement import Measurement, measurement_from_json
from workbench.timing.measuring import PHASE, WARMING, Timing, format_rate, measure, measure_together

__all__ = [
    "PHASE",
    "WARMING",
    "Measurement",
    "Timing",
    "format_rate",
    "measure",
    "measure_together",
    "measurement_from_json",
]
