"""Every road into ONNX: a framework's model -> a checked Model that answers as the framework does.

export.torch(module, example, open_dims={"input": {0: "batch"}})
export.paddle("inference/")          export.tensorflow("saved_model/")
export.network("tiny", describe)     NVIDIA's API, layer by layer, no ONNX at all
"""
