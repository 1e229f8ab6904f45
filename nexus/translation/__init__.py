"""Translates requests and answers between the dialects of clients and backends, without I/O.

===================  ==================================================================
``chat``             one chat request, in no dialect
``events``           the events that an answer consists of, in no dialect
``dialect``          the interface of a dialect
``reading``          decodes the body of a request into the types of a dialect
``tool_arguments``   the arguments of tools as JSON objects
``custom_tools``     tools whose input is plain text, as functions and back
``tool_names``       names of tools that a provider takes
``data_urls``        images and files in ``data:`` URLs
``media_types``      recognises images and PDFs by their first bytes, and names files
``error_texts``      finds what an error says, wherever its server puts it
``refusals``         the refusal of what cannot be translated
``system_messages``  gathers the system messages that begin a conversation
``pairing``          finds the result of each tool call in the history of a chat
``signed_ids``       keeps Google's signatures of tool calls in the ids of the calls
``quirks``           what single providers do differently
``ordering``         puts the events of an answer into the order that encoders rely on
``openai``           OpenAI's chat
``responses``        OpenAI's Responses API
``anthropic``        Anthropic's messages
``ollama``           Ollama's chat and completion
``conversion``       what becomes of one request and its answer: the interface for the proxy
``embeddings``       translates embeddings between OpenAI's dialect and Ollama's
``token_counts``     counts the tokens of Anthropic's requests, or estimates them
``translator``       translates between any two dialects
``dialects``         the table of dialects
===================  ==================================================================
"""
