"""What a run leaves on disk: atomic, checked HDF5 files that no reader has to trust."""
