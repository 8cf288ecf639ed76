"""Common parts of scorers that ask a service: splitting, retrying, pacing, typed errors."""
