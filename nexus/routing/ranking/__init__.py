"""How candidates are ordered.

==============  ===========================================================================
``strategies``  the strategies, each with its score and its way to break ties
``scoring``     how busy candidates are, their shares of the work, and turns
``latency``     how long each candidate is expected to take
==============  ===========================================================================
"""
