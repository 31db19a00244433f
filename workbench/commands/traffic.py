"""`workbench traffic`: optimization profiles for the shapes that a model is really asked for."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.common import read_model
from workbench.errors import ConfigError
from workbench.profiles import format_shapes
from workbench.traffic.cost import read_cost
from workbench.traffic.proposing import Proposal, Served, advice, advised, proposals_table, propose
from workbench.traffic.requests import Traffic, read_traffic
from workbench.types import count_of, profile_to_json


def traffic(options: argparse.Namespace) -> tuple[Any, str]:
    """Raises ConfigError and ShapeError for a log, or a cost, that cannot be read or does not fit the model."""
    if options.goal == "latency" and not options.cost:
        what = "what requests of some sizes take; `workbench bench MODEL --shapes x:1x3x640x640 --json` measures one"
        raise ConfigError(f"--goal latency needs --cost FILE.json: {what}.")
    model = read_model(options)
    cost = read_cost(options.cost, model.inputs) if options.cost else None
    requests = read_traffic(options.log, model.inputs)
    proposals = propose(requests, model.inputs, options.profiles, options.goal, cost)
    best = advised(proposals)
    data = {
        "model": str(model.path),
        "log": str(options.log),
        "goal": options.goal,
        "requests": requests.total,
        "distinct": len(requests.requests),
        "advised": len(best.served),
        "advice": advice(proposals),
        "proposals": [_proposal_to_json(item) for item in proposals],
    }
    return data, "\n\n".join([_head(model.path.name, requests, proposals), _choices(proposals), advice(proposals)])


def _head(name: str, requests: Traffic, proposals: tuple[Proposal, ...]) -> str:
    distinct = count_of(len(requests.requests), "distinct shape")
    certain = all(item.is_best for item in proposals)
    how = "no other choice is better" if certain else "found by search: others may be slightly better"
    return (
        f"{name}: {count_of(requests.total, 'request')} of {distinct}; each is padded up to its profile's max; {how}\n"
        f"{proposals_table(proposals)}"
    )


def _choices(proposals: tuple[Proposal, ...]) -> str:
    return "\n".join(f"{item}\n  {item.options}" for item in proposals)


def _proposal_to_json(item: Proposal) -> dict[str, Any]:
    return {
        "profiles": [_served_to_json(served, share) for served, share in zip(item.served, item.shares, strict=True)],
        "padding": item.padding,
        "computed_elements": item.computed_elements,
        "latency_ms": item.latency_ms,
        "gain": item.gain,
        "is_best": item.is_best,
        "shapes": [text for profile in item.profiles for text in format_shapes(profile)],
        "options": item.options,
    }


def _served_to_json(served: Served, share: float) -> dict[str, Any]:
    return {
        "ranges": profile_to_json(served.profile),
        "requests": served.requests,
        "share": share,
        "padding": served.padding,
        "latency_ms": served.ms,
    }
