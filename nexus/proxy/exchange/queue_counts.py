"""How many requests have waited for a slot, how long, and what came of it."""

from nexus.observability.metrics.histogram import WAIT_BUCKETS_S, Histogram


class QueueCounts:
    """Whoever was enqueued is waiting, or was drained, has timed out, or has left."""

    __slots__ = ("drained", "enqueued", "left", "timed_out", "waits")

    def __init__(self) -> None:
        self.enqueued = 0
        self.drained = 0
        """Were given a slot."""
        self.timed_out = 0
        self.left = 0
        """The client hung up, the proxy shut down, or nobody could serve them any more."""
        self.waits = Histogram(WAIT_BUCKETS_S)
        """Of all that do not wait any more, in seconds."""
