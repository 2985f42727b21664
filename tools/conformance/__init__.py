"""The parts of `tools/onnx_conformance.py`."""
