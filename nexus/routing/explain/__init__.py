"""Decisions explained.

============  ==================================================================
``model``     the JSON of an explanation
``build``     makes it, of a recorded decision or of a dry run
``findings``  the verdicts and the ranking of one model, grouped by backend
``why_not``   a sentence for each backend that was not chosen
``text``      prints an explanation for a terminal
============  ==================================================================
"""
