"""The bodies of requests: what routing reads of them, and the one value that changes.

``body``          decodes a JSON body, and refuses an ambiguous one
``limits``        the types of the members that are read, and their bounds
``multipart``     the same for forms
``model_field``   replaces the model in a JSON body
``prompt_start``  the beginning of the prompt, for the log
"""
