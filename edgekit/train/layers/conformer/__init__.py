"""A Conformer whose modules are sums over groups of hidden units."""
