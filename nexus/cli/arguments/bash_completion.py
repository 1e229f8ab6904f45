"""Completes names in bash that hold colons, blanks or quotes, where bash ends a word."""

import os
from typing import ClassVar

from click.shell_completion import BashComplete, split_arg_string

_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value
    local line=${COMP_LINE:0:$COMP_POINT}
    local word=${COMP_WORDS[COMP_CWORD]}

    response=$(env COMP_LINE="$line" %(complete_var)s=bash_complete $1)

    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            # Within quotes, nothing needs escaping.
            [[ $word == [\\'\\"]* ]] || printf -v value '%%q' "$value"
            # Readline replaces only what follows the last colon.
            if [[ $COMP_WORDBREAKS == *:* && ${line##*[[:space:]]} == *:* ]]; then
                local begun=${line##*[[:space:]]}
                value=${value#"${begun%%"${begun##*:}"}"}
            fi
            COMPREPLY+=("$value")
        fi
    done <<< "$response"

    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""


class BashCompletion(BashComplete):
    """Click's completion, but reading the whole line rather than words cut at colons, and quoting its results."""

    source_template: ClassVar[str] = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE")
        if line is None:
            # The shell has loaded the script of an older release.
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        # An unquoted blank at the end begins a new word.
        if split_arg_string(f"{line}x")[1:] == [*words, "x"]:
            return words, ""
        return words[:-1], words[-1] if words else ""
