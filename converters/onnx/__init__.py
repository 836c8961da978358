"""Files to ONNX and back: reader, streaming writer, structural checks."""
