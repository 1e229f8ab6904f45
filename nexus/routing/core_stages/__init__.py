"""The two built-in stages: ``analyze`` excludes backends that cannot answer, ``schedule`` ranks the rest, and
``known_load`` says in words what it knows of their load.

``schedule`` also gives out the slots: ``max_in_flight`` of a backend, and one where the breaker is half open.
"""
