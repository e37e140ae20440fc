"""The parts of `conformer.py`."""
