#!/usr/bin/env bash
# Removes from the disk what belongs to the bake instance or to who made it, so that every clone gets keys, names and ids
# of its own. Runs last: verify-clean.sh proves the result. Sessions that are open stay open.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# Every home directory, those of users whose homes are elsewhere included.
list_homes() {
  awk -F: '$6 ~ "^/." { print $6 }' "$root/etc/passwd"
  compgen -G "$root/home/*" | sed "s|^$root||" || true
  printf '/root\n'
}

stop_publishers() {
  systemctl stop gpumon.service amazon-cloudwatch-agent.service
  rm -rf "$root"/{var/lib,var/lib/private,run}/gpumon
  # The agent makes these anew from its JSON at every start, with the clone's own instance id.
  rm -f "$root"/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.{toml,yaml}
  rm -rf "$root"/opt/aws/amazon-cloudwatch-agent/{logs,var}/*
}

# auditd's unit refuses `systemctl stop`; while it runs, its log is written.
stop_auditd() {
  local attempt
  for attempt in {1..50}; do
    if ! systemctl is-active --quiet auditd.service; then return; fi
    if ((attempt == 1)); then systemctl kill auditd.service; fi
    sleep 0.1
  done
  fail "auditd does not stop and would write its log into the image; disable it in the base."
}

# cloud-init makes all of these again at the first boot of a clone.
remove_instance_data() {
  cloud-init clean --logs
  rm -f "$root"/etc/ssh/ssh_host_*_key{,.pub}
  rm -f "$root"/etc/{netplan,systemd/network,network/interfaces.d,NetworkManager/system-connections}/*cloud-init*
  rm -f "$root"/etc/udev/rules.d/70-persistent-net.rules
  rm -f "$root/etc/hostname"
}

remove_identity() {
  systemctl stop systemd-random-seed.service # otherwise it saves a new seed, for all clones, when the instance stops
  rm -rf "$root"/var/lib/systemd/{random-seed,credential.secret,network} "$root"/var/lib/{,urandom/}random-seed
  rm -f "$root"/boot/{,efi/}loader/random-seed
  rm -rf "$root"/var/lib/{dhcp,dhclient,dhcpcd}/*
  rm -f "$root"/var/lib/NetworkManager/{*lease*,secret_key,seen-bssids,timestamps,NetworkManager-intern.conf}
  rm -rf "$root"/etc/docker/key.json "$root"/var/lib/docker/engine-id
  rm -f "$root"/var/lib/ubuntu-advantage/private/machine-token.json
  # Empty, not absent: systemd then makes a new one at the first boot even where /etc is read-only at that time.
  : >"$root/etc/machine-id"
  if [[ ! -L "$root/var/lib/dbus/machine-id" ]]; then rm -f "$root/var/lib/dbus/machine-id"; fi
}

# Nothing makes NVMe's names at boot, and nothing needs to: where they are absent, each host uses one of its own. iSCSI
# does not start without a name.
remove_storage_names() {
  local name="$root/etc/iscsi/initiatorname.iscsi"
  rm -f "$root"/etc/nvme/{hostnqn,hostid}
  if [[ ! -e "$name" ]]; then return; fi
  rm -f "$name"
  if [[ -e "$root/usr/lib/open-iscsi/startup-checks.sh" || -e "$root/lib/open-iscsi/startup-checks.sh" ]]; then
    echo 'GenerateName=yes' >"$name" # Debian and Ubuntu: iscsid's own start makes one
    return
  fi
  # Red Hat's kin: this unit makes one at boot, where it is there.
  if [[ ! -e "$root/usr/lib/systemd/system/iscsi-init.service" ]]; then
    mkdir -p "$root/etc/systemd/system/iscsid.service.d"
    cat >"$root/etc/systemd/system/iscsid.service.d/10-initiator-name.conf" <<'UNIT'
[Service]
ExecStartPre=/bin/sh -c 'test -s /etc/iscsi/initiatorname.iscsi || echo "InitiatorName=$$(iscsi-iname)" >/etc/iscsi/initiatorname.iscsi'
UNIT
  fi
}

remove_personal_files() {
  local home
  while IFS= read -r home; do
    home="$root$home"
    rm -rf "$home"/.ssh/{authorized_keys*,known_hosts*,id_*,environment}
    rm -rf "$home"/.{bash,zsh,sh,ash,python,node_repl,mysql,psql,sqlite}_history
    rm -rf "$home"/.{lesshst,viminfo,wget-hsts,cache,gnupg}
    rm -rf "$home"/.{aws,azure,kube,ngc,huggingface,kaggle,netrc,pypirc,npmrc,git-credentials,env,envrc,pam_environment}
    rm -rf "$home"/.{gitconfig,curlrc,wgetrc,pip} "$home"/.docker/config.json
    rm -rf "$home"/.config/{pip,git,gh,gcloud,containers/auth.json}
  done < <(list_homes | sort --unique)
}

# Where the bake had to go through a proxy or a mirror, a clone need not.
remove_network_settings() {
  local file
  rm -rf "$root"/etc/{pip.conf,xdg/pip,gitconfig,apt/auth.conf,apt/auth.conf.d/*,apt/apt.conf.d/*proxy*,profile.d/*proxy*}
  rm -f "$root"/etc/systemd/system/*.d/*proxy*.conf
  for file in "$root"/etc/{environment,dnf/dnf.conf,yum.conf}; do
    if [[ ! -f "$file" ]]; then continue; fi
    # Through a link: Amazon Linux's yum.conf is one.
    sed --regexp-extended --in-place --follow-symlinks \
      '/^(export +)?([a-z_]*proxy(_username|_password)?|AWS_[A-Z_]*(KEY|TOKEN)[A-Z_]*) *=/Id' "$file"
  done
}

# What processes had in memory; a swap file is the size of memory, so this may take a while.
wipe_swap_files() {
  local file uuid
  while IFS= read -r file; do
    if [[ ! -f "$root$file" ]]; then continue; fi
    log "wiping the swap file $file"
    if grep --quiet "^$file " /proc/swaps; then swapoff "$root$file"; fi
    uuid="$(blkid --output value --match-tag UUID "$root$file" || true)"
    shred --iterations=0 --zero "$root$file"
    mkswap ${uuid:+--uuid "$uuid"} "$root$file" >/dev/null
  done < <(awk '$3 == "swap" && $1 ~ "^/" { print $1 }' "$root/etc/fstab" 2>/dev/null || true)
}

remove_package_history() {
  if command -v apt-get >/dev/null; then apt-get clean; fi
  if command -v dnf >/dev/null; then dnf --quiet clean all; fi
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/{dnf,libdnf5,yum}/*
  rm -rf "$root"/var/lib/dnf/history* "$root"/var/lib/yum/history "$root"/var/cache/debconf/*-old
}

remove_logs() {
  rm -rf "$root"/var/lib/systemd/coredump/* "$root"/var/crash/* "$root"/var/lib/apport/coredump/*
  rm -f "$root"/core "$root"/core.[0-9]* "$root"/var/{spool/mail,mail}/*
  find "$root"/tmp "$root"/var/tmp -ignore_readdir_race -xdev -mindepth 1 -delete
  journalctl --relinquish-var # journald makes a deleted journal anew, so it must first go over to memory
  # Deleted, not emptied: what is still logged until the instance stops then goes to files that no longer have a name.
  find "$root/var/log" -ignore_readdir_race -xdev -type f -delete
  rm -rf "$root"/var/log/journal/*
}

# The bake may itself be connected through this agent, so it is not stopped. Its registration goes now; the rest, and what
# it writes until the end, goes when the instance stops: a unit that lives in memory only and is stopped after the agent.
remove_ssm_registration() {
  local unit agents=(amazon-ssm-agent.service snap.amazon-ssm-agent.amazon-ssm-agent.service)
  for unit in "${agents[@]}"; do
    if ! systemctl is-active --quiet "$unit"; then continue; fi
    systemd-run --quiet --unit=gpunodes-forget-ssm --property=Type=oneshot --property=RemainAfterExit=yes \
      --property="Before=${agents[*]}" --property="ExecStop=/bin/rm -rf /var/lib/amazon/ssm /var/log/amazon" /bin/true
    rm -rf "$root"/var/lib/amazon/ssm/{Vault,registration,runtimeconfig}
    log "the SSM agent is connected: its files go when the instance stops"
    return
  done
  rm -rf "$root"/var/{lib/amazon/ssm,log/amazon}
}

main() {
  local bake_dir="${BAKE_DIR:?Set BAKE_DIR to the directory that the bake was uploaded to.}"
  local root="${ROOT_DIR:-}"
  # Whoever starts this elsewhere by mistake would lose keys, logs and histories of their own machine.
  [[ -d "$root$bake_dir" ]] || fail "There is no $bake_dir, so this is no instance that bakes; nothing was removed."
  shopt -s nullglob dotglob
  stop_publishers
  stop_auditd
  remove_instance_data
  remove_identity
  remove_storage_names
  remove_personal_files
  remove_network_settings
  wipe_swap_files
  rm -rf "$root$bake_dir"
  remove_package_history
  remove_logs
  remove_ssm_registration
  sync
  log "clean"
}

main "$@"
