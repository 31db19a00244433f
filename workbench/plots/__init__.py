"""Plots of what was measured, each also a table; drawn without pyplot, so that threads do not meet.

medians(measurements)       median latencies with their intervals, ties marked
distribution(measurements)  all raw times of each
throughput(points)          per second against batch and streams
pareto(points)              what speed costs in accuracy
layers(before, after)       time by fusion group, of one engine or two
svg(plot)                   text of an <svg> that follows a page's theme
save(plot, path)            .png, .svg or .csv
"""

from workbench.plots.distribution import distribution
from workbench.plots.layers import layers
from workbench.plots.medians import medians
from workbench.plots.output import png, save, svg
from workbench.plots.pareto import RELATIVE, ParetoPoint, pareto
from workbench.plots.plot import Plot
from workbench.plots.throughput import throughput

__all__ = [
    "RELATIVE",
    "ParetoPoint",
    "Plot",
    "distribution",
    "layers",
    "medians",
    "pareto",
    "png",
    "save",
    "svg",
    "throughput",
]
