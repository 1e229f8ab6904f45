"""Completion in bash of names that hold what bash takes for the end of a word: colons, blanks, quotes."""

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
            # Within quotes, everything stands as it is.
            [[ $word == [\\'\\"]* ]] || printf -v value '%%q' "$value"
            # Readline takes what follows the last colon for the word to be replaced.
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
    """That of click, but for what it reads, the line instead of words that are cut at colons, and what it quotes."""

    source_template: ClassVar[str] = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE")
        if line is None:
            # A shell that has read the script of an older release.
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        # Behind a blank that is not quoted, a new word begins.
        if split_arg_string(f"{line}x")[1:] == [*words, "x"]:
            return words, ""
        return words[:-1], words[-1] if words else ""
