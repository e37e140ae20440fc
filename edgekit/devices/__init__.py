"""What this machine is, and how fast a thing runs on it. No torch."""
