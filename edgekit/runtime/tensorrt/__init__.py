"""TensorRT and TensorRT-RTX: module, key, engine and execution, for the exporter and the backend alike."""
