"""Counts what became of the requests that have waited."""

from nexus.observability.metrics.histogram import WAIT_BUCKETS_S, Histogram


class QueueCounts:
    """Each request that was enqueued waits, or has left in one of four ways."""

    __slots__ = ("drained", "enqueued", "left", "refused", "shed", "timed_out", "waits")

    def __init__(self) -> None:
        self.enqueued = 0
        self.drained = 0
        """Those that were given a slot."""
        self.timed_out = 0
        self.shed = 0
        """Those that had to leave a full queue for another request."""
        self.left = 0
        """Those whose client left, that the shutdown ended, or that no backend can answer any more."""
        self.refused = 0
        """Requests that found the queue full: they have not waited, and are not among those that were enqueued."""
        self.waits = Histogram(WAIT_BUCKETS_S)
        """The waits of all that have left the queue, in seconds."""
