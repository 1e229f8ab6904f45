"""Which backend answers, and why: synchronous, without I/O.

===================  ==================================================================
``router``           searches the requested model, then its fallbacks, for a backend
``model_names``      the backends that have what a name stands for
``policies``         ``[[routing.policies]]``: which apply to a request
``intent``           the request being routed, with what the stages have decided so far
``pipeline``         runs the stages, and has each reserve what an attempt needs
``verdict_memo``     the verdicts that are the same for many requests
``stage``            one stage: its interface, how it is run, and what happens when it fails
``core_stages``      the two built-in stages, *analyze* and *schedule*
``ranking``          the strategies by which *schedule* orders the remaining backends
``decision``         the result: a reserved backend, wait, or a rejection
``rejections``       the error code and message when no backend may or can answer
``decision_record``  the last thousand decisions
``explain``          decisions as sentences and JSON, from their records
``assembly``         builds the router from the configuration and the plugins
===================  ==================================================================
"""
