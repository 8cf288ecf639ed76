"""Training: the loop, ranking losses, encoder matching, and the forward pass with gradients."""
