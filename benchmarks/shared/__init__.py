"""What every benchmark states and how it decides."""
