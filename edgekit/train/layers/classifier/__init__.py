"""A classifier of pictures on any backbone: what the families of pictures have in common."""
