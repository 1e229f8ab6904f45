"""The nouns of Nexus: values that every layer may hold, frozen except for the live counters.

=================  ================================================================
``request``        an endpoint, and what one request requires of a model
``model``          what is known of a model on one backend
``kinds``          what all servers of one kind have in common
``backend``        a backend and its status
``backend_load``   the live counters of one backend
``shared_load``    what other workers and replicas send to the same backend
``capacity``       how many requests a backend works on at once, and how that is known
``engine_report``  what an engine reports about its own load
``model_load``     the live figures of one model on one backend
``residency``      which models are in the memory of a backend
``changes``        counts changes of these figures
``fleet``          all backends at one instant
``naming``         resolves the name that a client sent
``model_names``    compares names of models
``silence``        how long a backend may leave requests unanswered
``translation``    the names of translations between the dialects of clients and backends
``priorities``     the priorities of requests
``statuses``       what an HTTP status of a backend means
``outcome``        how an attempt and an exchange ended
``routes``         pages that Nexus serves itself
``measure``        metrics of plugins
``read_only``      a dict that cannot be written
=================  ================================================================
"""
