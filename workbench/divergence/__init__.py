"""Where two engines of one model start to differ, layer by layer.

find_divergence(first, second, model, feeds)   runs both and compares the tensors between their kernels
compare_tensors(model, first, second)          the same of tensors that were come by in another way
"""

from workbench.divergence.finding import compare_tensors, find_divergence
from workbench.divergence.result import THRESHOLD, Divergence, Side, TensorError, divergence_from_json
from workbench.divergence.seeing import Seen

__all__ = [
    "THRESHOLD",
    "Divergence",
    "Seen",
    "Side",
    "TensorError",
    "compare_tensors",
    "divergence_from_json",
    "find_divergence",
]
