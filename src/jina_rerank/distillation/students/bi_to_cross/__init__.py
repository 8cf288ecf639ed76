"""A bi-encoder put into the weights of a cross-encoder, before any training."""
