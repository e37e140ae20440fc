"""Results of `edgekit profile` as one HTML page: `page.py` puts together what the other files draw."""
