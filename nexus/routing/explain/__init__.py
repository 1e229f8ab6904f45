"""Decisions explained: ``build`` turns the record of one into the ``model`` of an explanation.

``why_not`` says why each backend was not chosen, ``findings`` has the facts, and ``text`` prints it for a terminal.
"""
