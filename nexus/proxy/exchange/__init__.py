"""The life of one request, from its body to the record of what became of it.

====================  ============================================================================
``exchange``          the phases of a request, in order: start here
``context``           what all exchanges share, and the settings that a reload replaces
``failover``          asks one backend after the other until one has an answer; decides which get the client's own key
``slot_wait``         lets it wait in the queue when every backend is at its limit
``attempt``           what one backend has lent to the request, given back exactly once
``first_byte``        the timeout until a response begins
``rerouting``         moves a request away from a silent backend before that timeout
``response``          holds a response back until it may go to the client
``expected_response``, ``response_memory``  what is asked for, and how much may be held
``judging``           passes a response on, tries another backend, or gives up
``retry``             whether a failed attempt is tried again, and whether the budget allows it
``rejection``         the error that the client is told
``estimating``          answers a request for a count of tokens that no backend can count
``rewriting``         the model's name in the body, in both directions
``translating``       the request and the answer in another dialect than the client's
``dry_run``           decides about a request without sending it
``reply_head``        the head of the reply
``early_head``        begins the reply of a stream while a model is loaded, with comments
``relay``, ``pieces``  streams to the client, with back-pressure and the idle timeout
``resources``, ``resource_owners``  which backend keeps a response, a file or a batch
``record``, ``access_line``  the facts of the exchange, its outcome and its line in the log
====================  ============================================================================
"""
