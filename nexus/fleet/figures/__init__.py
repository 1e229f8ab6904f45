"""Decodes what engines report about their own load.

===============  ==================================================================
``pages``        metrics pages of vLLM, SGLang and llama.cpp
``documents``    JSON of SGLang, llama.cpp, LM Studio and Ollama
``prometheus``   reads chosen metrics from a page
===============  ==================================================================
"""
