"""Probes: ``probe`` asks whether a backend is healthy and which models it has, ``detection`` finds its kind.

``completion`` looks up what a model list leaves open, ``session`` shares requests within a probe, and ``result`` and
``counts`` hold what came of it.
"""
