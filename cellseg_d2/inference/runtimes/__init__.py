"""What runs the networks of a model: PyTorch, ONNX Runtime or OpenVINO, and the exports that those need."""
