"""From a graph's output to an answer, in NumPy."""
