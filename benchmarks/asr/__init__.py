"""The parts of `asr.py`."""
