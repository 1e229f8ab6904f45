"""The protocols of clients and backends: what their bytes mean, without I/O.

===================  ==================================================================
``paths``            finds the endpoint at a path
``protocols``        the table of all protocols and endpoints
``openai``           OpenAI's API
``ollama``           Ollama's API
``anthropic``        Anthropic's API
``protocol``         the interface of a protocol
``requests``         reads the bodies of requests, and replaces the model in them
``responses``        decides what an answer is, and restores the model's name in it
``streams``          splits streams into events, and watches them
``errors``           recognises errors of backends
``kept``             ids of what backends keep: files, batches, responses
``token_estimates``  estimates tokens that no backend has counted
``message_text``     measures the text of messages, and cuts files in base64 out of a body
``catalogue``        the models that the fleet can serve
``listings``         the pages that list these models
``composing``        composes sample requests, to explain how they are routed
``documents``        decodes JSON of backends
``characters``       finds and replaces what is no whole character in JSON
``json_members``     finds the members of a JSON object in its bytes
===================  ==================================================================
"""
