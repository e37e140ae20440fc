"""Recordings to batches: what training reads."""
