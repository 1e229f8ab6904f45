"""The protocols of clients and backends, without I/O.

================  ==================================================================
``openai``        endpoints, bodies, streams and errors of OpenAI's protocol
``anthropic``     the same of Anthropic's
``ollama``        the same of Ollama's
``protocol``      what each protocol offers; ``protocols`` lists them
``paths``         finds the endpoint at a path
``request_body``  decodes what routing reads of a body
``model_field``   replaces the model in a JSON body; ``multipart`` in a form
``nature``        what an answer is, by its first bytes
``stream_scan``   watches a stream; ``sse`` and ``ndjson`` split it into events
================  ==================================================================
"""
