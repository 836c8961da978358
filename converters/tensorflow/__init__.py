"""TensorFlow files to ONNX files, by tf2onnx in a process of its own; nothing of TensorFlow is imported here."""
