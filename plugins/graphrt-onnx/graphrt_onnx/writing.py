def to_onnx(*a, **k): raise NotImplementedError
