"""Training a network on new data; the only room besides runtime/torch that imports torch, and Lightning."""
