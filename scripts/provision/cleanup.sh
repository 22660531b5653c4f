#!/usr/bin/env bash
# Removes from the disk what belongs to the bake instance, so that every clone gets keys, names and ids of its own.
# Runs last: verify-clean.sh proves the result. Sessions that are open stay open.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

stop_publishers() {
  systemctl stop gpumon.service amazon-cloudwatch-agent.service
  rm -rf /var/lib/gpumon /var/lib/private/gpumon
  # The agent makes these anew from its JSON at every start, with the clone's own instance id.
  rm -f /opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.{toml,yaml}
  rm -rf /opt/aws/amazon-cloudwatch-agent/{logs,var}/*
}

remove_identity() {
  cloud-init clean --logs
  rm -f /etc/ssh/ssh_host_*_key{,.pub} /root/.ssh/authorized_keys* /home/*/.ssh/authorized_keys*
  rm -f /etc/hostname /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init*
  systemctl stop systemd-random-seed.service # otherwise it saves a new seed, for all clones, when the instance stops
  rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
  find /var/lib/dhcp /var/lib/NetworkManager -name '*lease*' -type f -delete 2>/dev/null || true # absent on some bases
  # Empty, not absent: systemd then makes a new one at the first boot even where /etc is read-only at that time.
  : >/etc/machine-id
  if [[ ! -L /var/lib/dbus/machine-id ]]; then rm -f /var/lib/dbus/machine-id; fi
}

remove_traces() {
  if command -v apt-get >/dev/null; then apt-get clean; fi
  if command -v dnf >/dev/null; then dnf --quiet clean all; fi
  rm -rf /var/lib/apt/lists/* /var/cache/{apt,dnf}/*.bin /var/lib/systemd/coredump/* /var/crash/*
  rm -rf /root/.{bash_history,python_history,lesshst,viminfo,wget-hsts,cache,gnupg}
  rm -rf /home/*/.{bash_history,python_history,lesshst,viminfo,wget-hsts,cache,gnupg}
  find /tmp /var/tmp -ignore_readdir_race -xdev -mindepth 1 -delete
  journalctl --relinquish-var # journald makes a deleted journal anew, so it must first go over to memory
  # Deleted, not emptied: what is still logged until the instance stops then goes to files that no longer have a name.
  find /var/log -ignore_readdir_race -xdev -type f -delete
  rm -rf /var/log/journal/*
}

main() {
  : "${BAKE_DIR:?Set BAKE_DIR to the directory that the bake was uploaded to.}"
  stop_publishers
  remove_identity
  rm -rf "$BAKE_DIR"
  remove_traces
  sync
  log "clean"
}

main "$@"
