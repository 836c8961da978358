"""Graphs to numbers: sessions, predictions, features, training. Never imports converters."""

if __name__ != "netferry.runtime":
    raise ImportError("import netferry.runtime, not runtime: a second copy would register everything twice")
