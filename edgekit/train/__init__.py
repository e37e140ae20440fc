"""Model families and how they learn."""
