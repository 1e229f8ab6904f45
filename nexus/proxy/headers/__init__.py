"""The headers of requests and replies.

===============  ==================================================================
``rules``        which headers do not pass, one table per direction, with reasons
``from_client``  reads and checks the head of a client's request, and drops the headers that ``Connection`` names
``to_backend``   makes the head of the request to a backend
``to_client``    makes the head of the reply
===============  ==================================================================
"""
