"""What is decided about requests, and why."""
