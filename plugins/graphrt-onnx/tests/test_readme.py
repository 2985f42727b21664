"""The README's last example runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnxruntime

README = Path(__file__).parents[1] / "README.md"


def test_training_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[-1]
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert float(re.search(r"'accuracy': ([\d.]+)", capsys.readouterr().out)[1]) > 0.95
    onnx.checker.check_model("trained.onnx", full_check=True)
    session = onnxruntime.InferenceSession("trained.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(None, {"x": names["xs"]})[0]
    assert (scores.argmax(1) == names["ys"]).mean() > 0.95
