"""Reads what engines report about their own load, without disturbing them.

===============  ==================================================================
``readers``      runs one reader for each backend, and bounds them together
``reader``       reads the reports of one backend
``timing``       decides when the next report is read
``endpoints``    which of a server's pages are worth a request
``counts``       counts the reads by result
===============  ==================================================================
"""
