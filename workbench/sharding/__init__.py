"""Work on samples spread over the workers of a Dask client, merged as if it had been done in one place.

collect_on(client, model, samples)                      what calibration.collect gives, bit for bit
evaluate_on(client, reference, {"int8": engine}, samples)    what evaluation.evaluate gives
compare_on(client, engines, sessions, samples)          what comparing.compare gives
"""

from workbench.sharding.comparing import compare_on
from workbench.sharding.job import Sharding
from workbench.sharding.spreading import collect_on, evaluate_on

__all__ = ["Sharding", "collect_on", "compare_on", "evaluate_on"]
