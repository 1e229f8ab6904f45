"""What operators and their tools may ask of a running proxy: pure functions from values to pages."""
