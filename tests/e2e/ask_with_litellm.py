"""Sends requests with litellm in a separate process, because its import is slow and causes warnings.

Each line of the input is a question as JSON; each line of the output says what was raised.
"""

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False


def raised(question: dict[str, Any]) -> dict[str, Any]:
    """Send a request, and return the exception that it raised, if any."""
    try:
        answer = litellm.completion(
            messages=[{"role": "user", "content": "hello there"}],
            api_key="sk-mine",
            max_tokens=9,
            num_retries=0,
            max_retries=0,
            **question,
        )
        list(answer)
    except Exception as exc:  # noqa: BLE001 - the test checks its type
        classes = [cls.__name__ for cls in type(exc).__mro__]
        return {"classes": classes, "status": getattr(exc, "status_code", None), "text": str(exc)}
    return {"classes": [], "status": None, "text": ""}


for line in sys.stdin:
    print(json.dumps(raised(json.loads(line))), flush=True)  # noqa: T201 - the other process reads it
