"""ONNX Runtime behind the Backend protocol, on a CPU.

``backend`` is the engine, ``decoders`` the three ways in which decode learns the chosen neurons,
``graphs`` loads graphs over one mapping of the weights, ``operators`` the project's operators,
``model_file`` reads and resizes a graph.
"""

from glass_export.runtime.onnxruntime.backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
