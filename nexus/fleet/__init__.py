"""What is true about backends: who they are, what they serve, and whether they can be trusted with a request."""
