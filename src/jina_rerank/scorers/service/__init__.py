"""What the scorers that ask a service share: splitting, retrying, pacing, and errors with types."""
