"""Gathers the system messages that begin a conversation, for servers whose templates have one place for them."""

from collections.abc import Sequence

from nexus.translation.chat import Message, Text


def with_one_system(messages: Sequence[Message]) -> list[Message]:
    """Return *messages* with one system message, at the beginning: many chat templates refuse or drop any other.

    Later ones stay in their place, marked, in a user's turn: at the beginning, they would change the cached prompt.
    """
    late = next((place for place, message in enumerate(messages) if message.role != "system"), len(messages))
    first = tuple(part for message in messages[:late] for part in message.parts)
    others = [_as_user(message) if message.role == "system" else message for message in messages[late:]]
    return [Message("system", first), *others] if first else others


def _as_user(message: Message) -> Message:
    text = "\n".join(part.text for part in message.parts if isinstance(part, Text))
    return Message("user", (Text(f"<system-reminder>\n{text}\n</system-reminder>"),))
