"""What a server claims about itself: the truth, unless a test makes it lie or fall silent."""

from datetime import UTC, datetime
from time import monotonic


class Claims:
    """The claims of one server, which a test may set."""

    def __init__(self) -> None:
        self.running: int | None = None
        """The number of running requests that it claims; None: the true one."""
        self.waiting: int | None = None
        """The number of waiting requests that it claims; None: the true one."""
        self.is_stalled = False
        """Whether it leaves questions about its load unanswered."""
        self.started_at = 0.0
        """Unix seconds."""
        self.run = 0
        """Microseconds of the machine's monotonic clock, by which llama.cpp names the run of its process."""

    def begin(self) -> None:
        """Begin the run of a new process."""
        self.started_at, self.run = datetime.now(UTC).timestamp(), int(monotonic() * 1e6)
