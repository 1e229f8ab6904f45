"""The backend's side: pools of connections, one request at a time on each, and the head of a response."""
