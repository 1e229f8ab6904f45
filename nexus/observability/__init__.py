"""What Nexus tells about itself: ``logging``, ``metrics`` and ``tracing``."""
