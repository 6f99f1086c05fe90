# Shared by the scripts here: paths of the tools, an unprivileged user, free ports.
# Source it; it needs bash.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
eval "$("$ROOT/scripts/setup" --paths)"

# PostgreSQL refuses to run as root: as root everything that runs belongs to `postgres`.
if [ "$(id -u)" = 0 ]; then
    RUN_AS=postgres
    as_user() { runuser -u "$RUN_AS" -- "$@"; }
else
    RUN_AS=$(id -un)
    as_user() { "$@"; }
fi

# Free TCP ports on 127.0.0.1, different from each other.
free_ports() { # <count>
    /usr/bin/python3 - "$1" <<'PY'
import socket, sys
socks = []
for _ in range(int(sys.argv[1])):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    socks.append(s)
print(*(s.getsockname()[1] for s in socks))
PY
}

# Waits until a command succeeds; prints a dot each half second.
wait_for() { # <seconds> <what> <command...>
    local seconds=$1 what=$2 deadline
    shift 2
    deadline=$((SECONDS + seconds))
    printf '   %s ' "$what"
    while ! "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then printf ' gave up after %s s\n' "$seconds"; return 1; fi
        printf .
        sleep 0.5
    done
    printf ' ok\n'
}
