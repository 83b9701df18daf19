#!/usr/bin/env bash
# A second server. It used to be the same again by hand, or by a playbook that had last worked on the first one. $ON_SECOND runs what
# follows it on the second server, for example:
#
#   ON_SECOND="ssh root@10.0.0.2 corten install" examples/story/6-second-server.sh
#
# With $SECOND (default: two), its name in the cluster.
source "$(dirname "$0")/stage.sh"

[ -n "${ON_SECOND:-}" ] || fail "ON_SECOND is to be what runs a command on the second server; see the head of this script"
second=${SECOND:-two}
data_dir=${DATA_DIR:-/var/lib/corten}
trap '"$corten" rm crowd >/dev/null; kubectl uncordon "$second" >/dev/null' EXIT

say "One command, which the first server prints, joins the second"
printf '$ corten token create\n'
join=$("$corten" token create --data-dir "$data_dir")
# shellcheck disable=SC2086
run $ON_SECOND ${join#corten }
until_it_says ' Ready ' kubectl get node "$second" --no-headers
run kubectl get nodes

say "Pods spread; the image comes from the server that has it"
run "$corten" run -d --name crowd -p 8080 --replicas 4 localhost/test/busybox:1 \
  sh -c 'trap "sleep 1; exit 0" TERM; hostname >/tmp/index.html; httpd -p 8080 -h /tmp; while :; do sleep 1 & wait; done'
run kubectl rollout status deployment/crowd --timeout 120s
run kubectl get pods -l app.kubernetes.io/name=crowd -o wide
on_second() {
  kubectl get pods -l app.kubernetes.io/name=crowd --field-selector "spec.nodeName=$second,status.phase=Running" -o name | wc -l
}
[ "$(on_second)" -gt 0 ] || fail "no pod is on $second"

say "For its maintenance a server is emptied; nobody notices"
drained() {
  run kubectl drain "$second" --ignore-daemonsets --delete-emptydir-data --timeout 120s
  run kubectl rollout status deployment/crowd --timeout 120s
}
while_asking http://crowd.localhost/ drained
[ "$(on_second)" = 0 ] || fail "$second has pods yet"
run kubectl uncordon "$second"
