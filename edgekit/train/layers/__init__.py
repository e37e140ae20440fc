"""Torch blocks that several families share."""
