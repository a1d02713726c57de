# One printed line an assertion: `ok  SUITE: WHAT`, or `FAIL SUITE: WHAT` and the evidence below it. To be sourced.
# shellcheck shell=bash

# As long as what must come some time may take, in seconds: a bound for hung systems, no expectation.
[[ ${time_limit-} ]] || readonly time_limit=60

passed=0
failed=0

ok() { # ok WHAT
    passed=$((passed + 1))
    echo "ok   $suite: $1"
}

fail() { # fail WHAT EVIDENCE
    failed=$((failed + 1))
    echo "FAIL $suite: $1"
    printf '%s\n' "$2" | tail -n 20 | sed 's/^/       | /'
}

check() { # check WHAT COMMAND...: it succeeds
    local evidence what=$1
    shift
    if evidence=$("$@" 2>&1); then ok "$what"; else fail "$what" "${evidence:-$* failed}"; fi
}

soon() { # soon WHAT COMMAND...: it succeeds some time
    local evidence what=$1
    shift
    if evidence=$(until_true "$@"); then ok "$what"; else fail "$what" "after $time_limit s: ${evidence:-$* failed}"; fi
}

until_true() { # until_true COMMAND...: tries it until it succeeds; shows its last output if it never does
    local output end=$((SECONDS + time_limit))
    until output=$("$@" 2>&1); do
        if ((SECONDS >= end)); then
            printf '%s\n' "$output"
            return 1
        fi
        sleep 0.05
    done
}

silent() { # silent WHAT COMMAND...: it succeeds and prints nothing
    local evidence what=$1
    shift
    if evidence=$("$@" 2>&1) && [[ -z $evidence ]]; then ok "$what"; else fail "$what" "${evidence:-$* failed}"; fi
}

prints() { # prints TEXT COMMAND...: its output has that text in it; shows the output otherwise
    local output text=$1
    shift
    output=$("$@" 2>&1)
    [[ $output == *"$text"* ]] && return
    printf '%s\n' "$output"
    return 1
}

is() { # is VALUE COMMAND...: that is its whole output
    local output value=$1
    shift
    output=$("$@" 2>&1)
    [[ $output == "$value" ]] && return
    printf '%s\n' "wanted: $value" "found:  $output"
    return 1
}

not() { # not COMMAND...: it fails
    ! "$@"
}
