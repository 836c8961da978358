"""Caffe: prototxt and caffemodel (V0, V1, V2), HDF5 snapshots, means, and the layers of well-known forks."""
