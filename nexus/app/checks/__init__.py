"""What check looks at besides the blueprint."""
