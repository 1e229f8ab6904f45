"""Carries each request from a client to a backend, and the response back.

A request passes through these rooms:

===============  ==================================================================
``client``       the client's connection: parsing, timeouts, access, the body, error replies
``dispatch``     decides whether a page, a WebSocket or an exchange serves the request
``exchange``     one request's life: ``exchange.exchange`` lists the phases, ``exchange.failover`` chooses backends,
                 ``exchange.retry`` decides whether to try again
``headers``      which headers pass in either direction, and the heads that are made of them
``upstream``     the connections to each backend, and the pool that reuses them
===============  ==================================================================

Shared by both sides: ``write_batch`` sends small writes together, ``deadlines`` keeps many timeouts on one timer,
``socket_state`` asks the kernel about a connection.
"""
