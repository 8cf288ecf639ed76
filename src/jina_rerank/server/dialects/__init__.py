"""The dialects of rerank APIs, one file each."""
