"""The parts of `hubert_student.py`."""
