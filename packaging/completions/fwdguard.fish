# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_fwdguard_global_optspecs
    string join \n root= h/help V/version
end

function __fish_fwdguard_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_fwdguard_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_fwdguard_using_subcommand
    set -l cmd (__fish_fwdguard_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c fwdguard -n "__fish_fwdguard_needs_command" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_needs_command" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -s V -l version -d 'Print version'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "run" -d 'Guard the node until SIGTERM; SIGHUP reloads the policy (started by the service)'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "check" -d 'Compare the kernel with the policy, without changing anything'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "apply" -d 'Restore all settings once'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "policy" -d 'Show the merged policy: every line in effect, its file and line number, and what it overrides'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "diagnose" -d 'Ask the kernel why traffic to a pod is not forwarded, without changing anything'
complete -c fwdguard -n "__fish_fwdguard_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand run" -l audit-interval -d 'Seconds between full audits; changes are noticed at once, whatever the interval' -r -f
complete -c fwdguard -n "__fish_fwdguard_using_subcommand run" -l metrics -d 'Keep FILE, whose name ends in .prom, for the textfile collector of Prometheus\'s node_exporter' -r -F
complete -c fwdguard -n "__fish_fwdguard_using_subcommand run" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_using_subcommand run" -s v -l verbose -d 'Log each decision at priority debug, with -vv also each event'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand run" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand check" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_using_subcommand check" -l json -d 'Print one JSON object instead of a table'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand check" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand apply" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_using_subcommand apply" -l json -d 'Print one JSON object instead of a table'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand apply" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand policy" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_using_subcommand policy" -l json -d 'Print one JSON object instead of a table'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand policy" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -l from -d 'The source address; without it, an address behind each interface is assumed' -r -f
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -l in -d 'The interface on which the packet arrives; without it, every interface that traffic could arrive on is checked' -r -f
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -l mark -d 'The packet\'s mark, in decimal or 0x..., and a mask of the bits that are known; \'ip rule\' and rp_filter may depend on it' -r -f
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -l root -d 'Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace' -r -f -a "(__fish_complete_directories)"
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -l json -d 'Print one JSON object instead of a table'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand diagnose" -s h -l help -d 'Print help'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "run" -d 'Guard the node until SIGTERM; SIGHUP reloads the policy (started by the service)'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "check" -d 'Compare the kernel with the policy, without changing anything'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "apply" -d 'Restore all settings once'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "policy" -d 'Show the merged policy: every line in effect, its file and line number, and what it overrides'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "diagnose" -d 'Ask the kernel why traffic to a pod is not forwarded, without changing anything'
complete -c fwdguard -n "__fish_fwdguard_using_subcommand help; and not __fish_seen_subcommand_from run check apply policy diagnose help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
