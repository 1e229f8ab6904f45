"""What Nexus tells about itself: logs, metrics, the phases of a request."""
