"""The Keras importer: .h5, .json, .keras and weights files of Keras 1, 2 and 3, read with numpy and h5py only."""
