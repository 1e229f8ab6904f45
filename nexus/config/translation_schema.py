"""The keys of ``[translation]``."""

from nexus.config.section import Section


class TranslationConfig(Section, frozen=True):
    """Whether clients of one API may be answered by backends of another."""

    enabled: bool = True
    """Whether a request is translated for a backend that does not speak the protocol of its client. A backend that does
    is asked first, and gets the client's own bytes. The header ``X-Nexus-Translated`` names the translation, and
    ``X-Nexus-Untranslated`` what was lost in it."""
    disabled_pairs: tuple[str, ...] = ()
    """Translations that are not made, each as client and backend: ``anthropic->openai``. The names are ``openai`` (chat
    completions and embeddings), ``responses``, ``anthropic``, ``ollama``, ``generate`` (Ollama's, clients only) and
    ``tokenize`` (to count tokens, backends only)."""
