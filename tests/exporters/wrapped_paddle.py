"""An adapter for `converters/child.py` that calls paddle2onnx as its command line does, to see what comes of that."""

import importlib.util


def releases():
    return "Paddle", f"paddle2onnx {importlib.import_module('paddle2onnx').__version__}"


def convert(source, output, opset, tell):
    paddle2onnx = importlib.import_module("paddle2onnx")
    paddle2onnx.export(source["model"], source["params"], output, opset_version=opset, optimize_tool="None")


def predictor(source, tell):
    spec = importlib.util.spec_from_file_location("own", source["own"])
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    return own.predictor(source, tell)
