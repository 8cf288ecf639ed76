"""Training data: pairs, hard negatives, and the cache of teachers' scores."""
