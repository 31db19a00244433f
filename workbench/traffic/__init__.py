"""Optimization profiles for the shapes that a model is really asked for.

requests = read_traffic("shapes.log", model.inputs)     propose(requests, model.inputs, most=4): 1 to 4 profiles
"""

from workbench.traffic.cost import interpolated, read_cost
from workbench.traffic.proposing import GOALS, Proposal, Served, advice, advised, proposals_table, propose
from workbench.traffic.requests import Request, Traffic, read_traffic

__all__ = [
    "GOALS",
    "Proposal",
    "Request",
    "Served",
    "Traffic",
    "advice",
    "advised",
    "interpolated",
    "proposals_table",
    "propose",
    "read_cost",
    "read_traffic",
]
