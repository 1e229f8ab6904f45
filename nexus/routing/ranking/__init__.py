"""How candidates are ordered.

==============  ===========================================================================
``strategies``  the strategies, each with its score and its way to break ties
``ranking``       the order that results, of which mostly only the first place counts
``candidates``    what does not move between two rankings of the same candidates
``judged``      what the stages have said of the candidates, by their positions
``scoring``     how busy candidates are, their shares of the work, and turns
``latency``     how long each candidate is expected to take
==============  ===========================================================================
"""
