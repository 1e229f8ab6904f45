"""The built-in stages, in their order.

==============  =========================================================================
``analyze``     excludes backends that lack what the request needs
``residency``   prefers a model in memory, and holds back requests that would swap models
``schedule``    ranks the rest, and gives out the slots of a backend
``holding_back``  why a request waits for a slot of its model
``half_open``   the breakers that admit one request at a time
``known_load``  says in words what ``schedule`` knows of their load
==============  =========================================================================

A backend has ``max_in_flight`` slots, and one where its breaker is half open.
"""
