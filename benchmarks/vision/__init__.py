"""The parts of `vision.py`."""
