"""Which backend answers, and why: synchronous, without I/O.

``router`` searches the requested model and its fallbacks, each through the ``pipeline`` of stages.

=================  ==================================================================
``model_names``    aliases, patterns, and requests that name no model
``policies``       ``[[routing.policies]]``: which apply to a request
``intent``         the request being routed, with what the stages have decided so far
``stage``          one stage: its interface, how it is run, and what happens when it fails
``core_stages``    the two built-in stages, *analyze* and *schedule*
``ranking``        the strategies that score the remaining backends, and shares
``decision``       the result: a reserved backend, wait, or a rejection
``rejections``     the error code and message when no backend may or can answer
``explain``        decisions as sentences and JSON, from the ``decision_record`` of each
``assembly``       builds the router from the configuration and the plugins
=================  ==================================================================
"""
