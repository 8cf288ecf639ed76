"""Common parts of scorers that call a service: splitting, retries, pacing, typed errors."""
