"""Helpers of ``tools/onnx_exported_models.py``."""
