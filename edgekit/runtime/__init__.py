"""Run a bundle: features, backends, decoding, tasks. No torch."""
