"""Adaptation of a recogniser to a speaker on the device: gradients from an inference engine, all else in NumPy."""
