"""Few-shot classification measured over episodes of embeddings, with controls and intervals."""
