"""Files to graphs and graphs to files. Never imports torch, onnxruntime, keras or tensorflow."""

if __name__ != "netferry.converters":
    raise ImportError("import netferry.converters, not converters: a second copy would register everything twice")
