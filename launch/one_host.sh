#!/bin/sh
# Train on this host: check this job here first, then start one rank a device (launch.devices in the config, or --devices).
#
#   launch/one_host.sh CONFIG.yaml [options of `fcn4dist launch`]
#
# FCN4DIST: the command, where it is not on PATH.
set -eu
config=${1:?usage: launch/one_host.sh CONFIG.yaml [options of fcn4dist launch]}
shift

check() { # with those of the job's options that doctor knows, too
    left=$#
    while [ "$left" -gt 0 ]; do
        option=$1
        shift
        left=$((left - 1))
        case $option in
        --set | --data | --devices | --device-target | --run-dir | --resume)
            [ "$left" -gt 0 ] || continue # launch says what is missing
            set -- "$@" "$option" "$1"
            shift
            left=$((left - 1))
            ;;
        --set=* | --data=* | --devices=* | --device-target=* | --run-dir=* | --resume=* | --demo | --force)
            set -- "$@" "$option"
            ;;
        esac
    done
    "${FCN4DIST:-fcn4dist}" doctor --quick --quiet --config "$config" "$@"
}

check "$@"
exec "${FCN4DIST:-fcn4dist}" launch --config "$config" "$@"
