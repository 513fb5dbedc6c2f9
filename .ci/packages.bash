# Sourced by setup and test-tools: how this system installs packages. Owns the difference between apt-get and dnf and
# between root, sudo and neither; knows no package by itself.

export DEBIAN_FRONTEND=noninteractive

# Prints apt, dnf or nothing.
package_manager() {
    if command -v apt-get >/dev/null && [ -e /etc/debian_version ]; then echo apt
    elif command -v dnf >/dev/null; then echo dnf
    fi
}

# True if packages can be installed without asking anybody.
may_install() {
    [ -n "$(package_manager)" ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

# quietly COMMAND...: its output is shown only when it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || { status=$?; cat "$log" >&2; }
    rm -f "$log"
    return "$status"
}

# Brings apt's lists up to date, once per process. A mirror that cannot be reached is no reason to stop here: what it
# would have offered is found missing later, by name.
refresh_lists() {
    [ "$(package_manager)" = apt ] || return 0
    [ -n "${lists_are_fresh:-}" ] || quietly as_root apt-get update -q || true
    lists_are_fresh=1
}

# known PACKAGE: apt's lists have it.
known() {
    [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]
}

# first_known PACKAGE...: prints the first one in apt's lists; the last of all when there are no lists yet.
first_known() {
    local package
    for package in "$@"; do
        if known "$package"; then
            echo "$package"
            return
        fi
    done
    echo "$package"
}

# The one line a person types to install PACKAGE...
install_command() {
    local command
    case $(package_manager) in
        apt) command="apt-get update && apt-get install -y --no-install-recommends $*" ;;
        dnf) command="dnf install -y $*" ;;
    esac
    if [ "$(id -u)" = 0 ]; then echo "$command"
    elif command -v sudo >/dev/null; then echo "sudo sh -c '$command'"
    else echo "su -c '$command'"
    fi
}

install_packages() {
    case $(package_manager) in
        apt) quietly as_root apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@" ;;
        dnf) quietly as_root dnf -q install -y "$@" ;;
    esac
}
