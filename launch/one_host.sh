#!/bin/sh
# Train on this host: check it first, then start one rank a device (launch.devices in the config, or --devices).
#
#   launch/one_host.sh CONFIG.yaml [options of `fcn4dist launch`]
#
# FCN4DIST: the command, where it is not on PATH.
set -eu
config=${1:?usage: launch/one_host.sh CONFIG.yaml [options of fcn4dist launch]}
shift

"${FCN4DIST:-fcn4dist}" doctor --quick --quiet --config "$config"
exec "${FCN4DIST:-fcn4dist}" launch --config "$config" "$@"
