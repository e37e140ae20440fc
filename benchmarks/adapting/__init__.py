"""The learners of `adaptation.py`."""
