#!/bin/bash
# Take CANN's environment from wherever this CANN has it, then become the command: `docker run IMAGE fcn4dist doctor`.
#
# Kubernetes: give the command as `args`; a `command` there replaces this script, and the ranks find no libascendcl.so.
# ASCEND_ROOT: where CANN and the driver are, if not in /usr/local/Ascend.
root=${ASCEND_ROOT:-/usr/local/Ascend}

# CANN 8.5 and later is in cann, before it was in ascend-toolkit. Its script reads variables that are not set, so no `set -u` here.
found=
for folder in "${ASCEND_HOME_PATH:-}" "$root/cann" "$root/ascend-toolkit"; do
    if [ -n "$folder" ] && [ -f "$folder/set_env.sh" ]; then
        # shellcheck disable=SC1091 # CANN's own
        source "$folder/set_env.sh"
        found=$folder
        break
    fi
done
if [ -z "$found" ]; then
    echo "ascend-entrypoint: no set_env.sh in $root/cann or $root/ascend-toolkit: this is no CANN image, NPUs will not be found" >&2
fi

# the driver comes from the host, by ascend-docker-runtime or a mount; what is not there does no harm
driver=$root/driver/lib64
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$driver:$driver/common:$driver/driver
exec "$@"
