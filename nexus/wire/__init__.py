"""The protocols of clients and backends: what their bytes mean, without I/O.

In the order of a request:

``paths``             finds the endpoint at a path
``protocols``         the table of protocols: ``openai``, ``ollama``, ``anthropic``
``protocol``          what each of them offers
``requests``          reads and changes the bodies of requests
``responses``         decides what an answer is, and restores the model's name in it
``streams``           cuts streams into events and watches them pass
``errors``            recognises the errors of backends
``kept``              what backends keep for clients: files, batches, responses
``token_estimates``   estimates tokens where no count is known
``catalogue``         the models of the fleet, for ``listings``, the pages that list them
``composing``         composes requests that are routed and never sent
``documents``, ``json_members``  read JSON, as a whole and member by member
"""
