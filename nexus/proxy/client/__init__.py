"""The client's side of the proxy.

==================  ==================================================================
``server``          accepts connections, and ends them when the proxy drains
``descriptors``     turns clients away while file descriptors are short
``connection``      one connection: its requests in turn, and the replies; cancels a request whose client leaves
``starts``          starts and settles few requests in one turn of the event loop
``request_reader``  splits the bytes of a connection into requests, and queues these
``chunked_body``    finds the end of a chunked body
``timeouts``        the header timeout and the keep-alive timeout
``write_stall``     cuts a client that takes nothing of what was written for it
``half_close``      tells a client that sends no more from one that has left
``access``          checks version, framing, Host, web origin, key and loops of proxies; ``cors`` is for browsers
``key_filter``      keeps the keys of Nexus out of requests to backends
``incoming``        a checked request
``content_coding``  decodes compressed bodies
``body``            receives a body, and reads from it what routing needs
``replies``         pages and errors as bytes
==================  ==================================================================
"""
