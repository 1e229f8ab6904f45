"""Which backend answers, and why: synchronous and pure."""
