"""The facts about each model of a backend.

==============  ==================================================================
``listings``    decodes the model lists of servers
``lookups``     decodes the responses that complete them
``reading``     reads untrusted JSON
``guesses``     guesses unknown facts from a model's name
``overrides``   applies what the operator has configured
``spellings``   the other names by which clients may request a model
==============  ==================================================================
"""
