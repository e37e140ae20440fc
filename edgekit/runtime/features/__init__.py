"""From a recording to a graph's input, in NumPy."""
