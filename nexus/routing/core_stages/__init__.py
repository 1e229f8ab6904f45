"""The two built-in stages: ``analyze`` excludes backends that cannot answer, ``schedule`` ranks the rest.

``schedule`` also gives out the slots: ``max_in_flight`` of a backend, and one where the breaker is half open.
"""
