"""Files that sherpa-onnx reads: a recogniser of whole recordings and one of streams, with tokens.txt. Torch-free."""
