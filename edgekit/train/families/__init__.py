"""One folder per family; they are found by folder and never import each other."""
