"""One module for each way of scoring; `base` holds the protocol they share."""
