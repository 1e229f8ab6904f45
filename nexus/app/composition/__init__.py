"""What is composed from a configuration before anything starts."""
