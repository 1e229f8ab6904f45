"""The life of one request: queue, attempts, failover, relay, and the record of all of it."""
