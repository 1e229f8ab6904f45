"""What a backend keeps for clients: responses, conversations, files, batches.

``endpoints``   makes the rows of the endpoints for them
``references``  finds the files that a request refers to
``made_ids``    reads the ids that an answer gives out
"""
