"""Networks that turn a picture into named feature maps; one file per kind, `opening.py` opens any by its name."""
