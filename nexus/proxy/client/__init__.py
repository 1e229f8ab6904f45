"""The client's side: accepts connections, reads requests, checks access, and writes replies."""
