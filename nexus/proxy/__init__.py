"""Carries each request from a client to a backend, and the response back.

A request passes through these packages, in this order:

============  ==================================================================
``client``    the client's connection: parses requests, checks access, receives the body, writes errors
``dispatch``  chooses what serves the request: an exchange, a page or a WebSocket
``exchange``  the life of one request: ``exchange.exchange`` lists its phases, ``exchange.failover`` asks backends
              in turn, ``exchange.retry`` decides whether to try again
``waiting``   the queue for requests that no backend has a slot for
``headers``   which headers pass in either direction, and the heads made of them
``upstream``  opens connections to backends, reuses them, and parses responses
============  ==================================================================

A timeout is in the module that waits: for a client in ``client.timeouts``, ``client.body`` and ``client.write_stall``;
for a backend in ``upstream.pool``, ``exchange.first_byte`` and ``exchange.relay``.

A limit is where its subject arrives: of heads in ``client.request_reader``, ``headers.from_client`` and
``client.access`` (the target); of bodies in ``client.body``; of requests at one time in ``exchange.exchange`` and
``dispatch.pages``; of requests to one backend in :mod:`nexus.routing.core_stages`.

Used on both sides: ``write_batch`` sends small writes together, ``socket_state`` asks the kernel about a connection.
"""
