#!/usr/bin/env bash
# Fails, with the complete list, when the disk still holds something of the bake instance that a clone would inherit.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

list_homes() {
  awk -F: '$6 ~ "^/." { print $6 }' "$root/etc/passwd"
  compgen -G "$root/home/*" | sed "s|^$root||" || true
  printf '/root\n'
}

# Every path that should be gone, whether it is there or not.
list_system_files() {
  printf '%s\n' "$root$bake_dir" \
    "$root"/etc/ssh/ssh_host_*_key* \
    "$root"/etc/{netplan,systemd/network,network/interfaces.d,NetworkManager/system-connections}/*cloud-init* \
    "$root"/etc/udev/rules.d/70-persistent-net.rules \
    "$root"/var/lib/cloud/{instance,instances,data,sem}/* \
    "$root"/var/lib/systemd/{random-seed,credential.secret,network,coredump/*} "$root"/var/lib/{,urandom/}random-seed \
    "$root"/boot/{,efi/}loader/random-seed \
    "$root"/var/lib/{dhcp,dhclient,dhcpcd}/* \
    "$root"/var/lib/NetworkManager/{*lease*,secret_key,seen-bssids,timestamps,NetworkManager-intern.conf} \
    "$root"/etc/docker/key.json "$root"/var/lib/docker/engine-id \
    "$root"/var/lib/ubuntu-advantage/private/machine-token.json \
    "$root"/etc/nvme/{hostnqn,hostid} \
    "$root"/var/lib/{gpumon,private/gpumon}/* \
    "$root"/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.{toml,yaml}* \
    "$root"/opt/aws/amazon-cloudwatch-agent/{logs,var}/* \
    "$root"/var/lib/amazon/ssm/{Vault,registration,runtimeconfig} \
    "$root"/etc/{pip.conf,xdg/pip,gitconfig,apt/auth.conf,apt/auth.conf.d/*,apt/apt.conf.d/*proxy*,profile.d/*proxy*} \
    "$root"/etc/systemd/system/*.d/*proxy*.conf \
    "$root"/var/lib/dnf/history* "$root"/var/lib/yum/history "$root"/var/cache/debconf/*-old \
    "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/{*.bin,archives/*.deb} "$root"/var/cache/{dnf,libdnf5,yum}/* \
    "$root"/var/crash/* "$root"/var/lib/apport/coredump/* "$root"/core "$root"/core.[0-9]* \
    "$root"/var/{spool/mail,mail}/* "$root"/{tmp,var/tmp}/* "$root"/var/log/journal/*
}

list_personal_files() {
  local home
  while IFS= read -r home; do
    home="$root$home"
    printf '%s\n' "$home"/.ssh/{authorized_keys*,known_hosts*,id_*,environment} \
      "$home"/.{bash,zsh,sh,ash,python,node_repl,mysql,psql,sqlite}_history \
      "$home"/.{lesshst,viminfo,wget-hsts,cache,gnupg} \
      "$home"/.{aws,azure,kube,ngc,huggingface,kaggle,netrc,pypirc,npmrc,git-credentials,env,envrc,pam_environment} \
      "$home"/.{gitconfig,curlrc,wgetrc,pip} "$home"/.docker/config.json \
      "$home"/.config/{pip,git,gh,gcloud,containers/auth.json}
  done < <(list_homes | sort --unique)
}

# What must not be gone, but must not say something either.
list_contents() {
  local file
  if [[ -s "$root/etc/machine-id" ]]; then printf '%s is not empty\n' "$root/etc/machine-id"; fi
  if [[ -s "$root/etc/hostname" ]]; then printf '%s names the bake instance\n' "$root/etc/hostname"; fi
  grep --files-with-matches --no-messages '^InitiatorName=' "$root/etc/iscsi/initiatorname.iscsi" || true
  for file in "$root"/etc/{environment,dnf/dnf.conf,yum.conf}; do
    grep --files-with-matches --no-messages --ignore-case --extended-regexp \
      '^(export +)?([a-z_]*proxy(_username|_password)?|AWS_[A-Z_]*(KEY|TOKEN)[A-Z_]*) *=' "$file" || true
  done
  if [[ ! -L "$root/var/lib/dbus/machine-id" && -e "$root/var/lib/dbus/machine-id" ]]; then
    printf '%s\n' "$root/var/lib/dbus/machine-id"
  fi
  while IFS= read -r file; do
    # The first page of a swap file is its header.
    if [[ -f "$root$file" && -n "$(tail --bytes=+4097 "$root$file" | tr -d '\0' | head --bytes=1)" ]]; then
      printf '%s holds what was in memory\n' "$root$file"
    fi
  done < <(awk '$3 == "swap" && $1 ~ "^/" { print $1 }' "$root/etc/fstab" 2>/dev/null || true)
}

# While the SSM agent is connected, the unit that removes its files at the end must be there.
list_logs_and_ssm() {
  if systemctl is-active --quiet gpunodes-forget-ssm.service; then
    find "$root/var/log" -xdev -path "$root/var/log/amazon" -prune -o -type f -print
    return
  fi
  find "$root/var/log" -xdev -type f
  if [[ -e "$root/var/lib/amazon/ssm" ]]; then printf '%s\n' "$root/var/lib/amazon/ssm"; fi
}

list_leftovers() {
  local path
  { list_system_files && list_personal_files; } |
    while IFS= read -r path; do if [[ -e "$path" || -L "$path" ]]; then printf '%s\n' "$path"; fi; done
  list_logs_and_ssm
  list_contents
}

main() {
  local bake_dir="${BAKE_DIR:?Set BAKE_DIR to the directory that the bake was uploaded to.}"
  local root="${ROOT_DIR:-}"
  local leftovers
  shopt -s nullglob dotglob
  leftovers="$(list_leftovers | sort --unique)"
  if [[ -n "$leftovers" ]]; then
    log "error: The image would carry these $(wc --lines <<<"$leftovers") things of the bake instance; extend cleanup.sh:"
    printf '%s\n' "$leftovers" >&2
    exit 1
  fi
  log "nothing of the bake instance is left"
}

main "$@"
