"""What is known of each backend, and what changes the fleet."""
