"""What things are: the graph, its layers, labels, preprocessing and reports. Knows no file format and no engine."""

if __name__ != "netferry.schemas":
    raise ImportError("import netferry.schemas, not schemas: a second copy would register everything twice")
