"""The bodies of requests: what routing reads from them, and the model that is replaced.

=================  ==================================================================
``body``           decodes a JSON body, and refuses an ambiguous one
``limits``         the types of the members that are read, and their bounds
``model_field``    replaces the model in a JSON body
``multipart``      reads a form, and replaces the model in it
``prompt_blocks``  hashes of the prompt, by which a common beginning is recognised
``prompt_start``   the beginning of the prompt, for logs
=================  ==================================================================
"""
