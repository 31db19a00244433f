"""The TensorRT workbench: from a trained network to a fast, trusted NVIDIA engine.

model = load_model("data/models/fashion_cnn.onnx")
built = build(model, BuildConfig(profiles=(default_profile(model.inputs),)))
"""

import os

# ONNX Runtime starts its telemetry while it is imported; this must stand before, here and in the child processes.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from workbench.backends import available, default_backend
from workbench.building import Built, build, check_support
from workbench.engine import Engine, open_engine, read_layers, read_log
from workbench.errors import WorkbenchError
from workbench.fusion import open_fusion
from workbench.hybrid import HybridSession, build_parts, collect_shapes
from workbench.machine import this_machine
from workbench.model import Model, load_model
from workbench.openings import describe_dimensions, edit, open_dimension
from workbench.profiles import default_profile, parse_shapes
from workbench.saving import save_model
from workbench.store import EngineStore
from workbench.subgraphs import partition
from workbench.types import BuildConfig, BuilderOptions, Calibration, OptimizationProfile, ShapeRange, TensorSpec

__all__ = [
    "BuildConfig",
    "BuilderOptions",
    "Built",
    "Calibration",
    "Engine",
    "EngineStore",
    "HybridSession",
    "Model",
    "OptimizationProfile",
    "ShapeRange",
    "TensorSpec",
    "WorkbenchError",
    "available",
    "build",
    "build_parts",
    "check_support",
    "collect_shapes",
    "default_backend",
    "default_profile",
    "describe_dimensions",
    "edit",
    "load_model",
    "open_dimension",
    "open_engine",
    "open_fusion",
    "parse_shapes",
    "partition",
    "read_layers",
    "read_log",
    "save_model",
    "this_machine",
]
