"""What a backend keeps for clients: responses, conversations, files, batches.

==============  ==================================================================
``references``  finds the files that a request refers to
``made_ids``    reads the ids in an answer
==============  ==================================================================
"""
