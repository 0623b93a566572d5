#!/bin/sh
# Installs @package@ from this folder, as a service where systemd runs:
#
#   ./install.sh              installs, or upgrades: configuration and data stay
#   ./install.sh --uninstall  takes away what it has installed; configuration and data stay
set -eu

binaries=/usr/local/bin
unit=/etc/systemd/system/@package@.service
configuration=/etc/tidegate/@name@.yaml
data=/var/lib/@package@
folder=$(cd "$(dirname "$0")" && pwd)

has_systemd() { [ -d /run/systemd/system ]; }

make_user() {
    if id @package@ >/dev/null 2>&1; then
        return
    elif command -v useradd >/dev/null; then
        useradd --system --user-group --home-dir "$data" --no-create-home --shell /bin/false @package@
    else
        # BusyBox.
        addgroup -S @package@
        adduser -S -D -H -h "$data" -s /bin/false -G @package@ @package@
    fi
}

# A program that runs cannot be written over; it can be replaced.
place() {
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
}

install_all() {
    make_user
    mkdir -p "$binaries" /etc/tidegate "$data"
    chown @package@:@package@ "$data"
    chmod 750 "$data"
    for program in "$folder"/bin/*; do
        place "$program" "$binaries/$(basename "$program")" 755
    done
    if [ -e "$configuration" ]; then
        place "$folder/etc/@name@.yaml" "$configuration.dist" 644
        echo "$configuration stays as it is; this version's own is $configuration.dist"
    else
        place "$folder/etc/@name@.yaml" "$configuration" 644
    fi
    if has_systemd; then
        sed "s|/usr/bin/|$binaries/|" "$folder/@package@.service" >"$unit"
        systemctl daemon-reload
        systemctl enable --quiet @package@
        systemctl restart @package@
        echo "@package@ runs: systemctl status @package@"
    else
        echo "no systemd here: as the user @package@, run  $binaries/@package@ --config $configuration"
    fi
}

uninstall() {
    if [ -e "$unit" ]; then
        systemctl disable --now --quiet @package@ || true
        rm -f "$unit"
        systemctl daemon-reload || true
    fi
    for program in "$folder"/bin/*; do
        rm -f "$binaries/$(basename "$program")"
    done
    echo "left: $configuration, $data, and the user @package@"
}

[ "$(id -u)" -eq 0 ] || { echo "install.sh: this needs root" >&2; exit 1; }
if [ -e "/usr/bin/@package@" ]; then
    echo "install.sh: /usr/bin/@package@ is there already, from a package: remove that first (apt remove @package@)" >&2
    exit 1
fi
case ${1:-} in
    '') install_all ;;
    --uninstall) uninstall ;;
    *) echo "usage: install.sh [--uninstall]" >&2; exit 2 ;;
esac
