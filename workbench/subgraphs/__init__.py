"""Which nodes of a model a back end takes, cut into subgraphs as Paddle-TRT's subgraph mode does.

partition(model, backend, min_subgraph_size)   engines and native parts, in an order in which they can run
find_support, divide, steps                    the same in two steps, the second quick enough for a slider
cut(model, part)                               a part as a model of its own
"""

from workbench.subgraphs.dividing import (
    NATIVE,
    NodeSupport,
    Part,
    Partition,
    cut,
    divide,
    find_support,
    partition,
    step_words,
    steps,
)

__all__ = [
    "NATIVE",
    "NodeSupport",
    "Part",
    "Partition",
    "cut",
    "divide",
    "find_support",
    "partition",
    "step_words",
    "steps",
]
