"""Model to bundle: onnx.py needs torch; everything after the ONNX file is torch-free and works on the device."""
