"""Latency, throughput, memory, energy and layers of a bundle, or of any ONNX, OpenVINO or TensorRT model."""
