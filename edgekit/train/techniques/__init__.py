"""Ways of learning that several families share."""
