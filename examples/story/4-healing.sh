#!/usr/bin/env bash
# What dies comes back. There used to be a watchdog, and somebody who was called when it had died itself. With $CONTROL_PID, which is
# the process of `corten up`, that one is killed too; the service of `corten install` would begin again by itself.
source "$(dirname "$0")/stage.sh"

trap '"$corten" rm patient >/dev/null' EXIT
run "$corten" run -d --name patient -p 8080 --replicas 2 localhost/test/busybox:1 \
  sh -c 'trap "exit 1" TERM; hostname >/tmp/index.html; httpd -p 8080 -h /tmp; while :; do sleep 1 & wait; done'
until_it_says patient page http://patient.localhost/
run kubectl rollout status deployment/patient --timeout 60s

say "A program ends with an error, and begins again"
pod=$(kubectl get pods -l app.kubernetes.io/name=patient -o 'jsonpath=pod/{.items[0].metadata.name}')
# The command may be killed with the container that it is in.
run kubectl exec "$pod" -- kill -TERM 1 || true
until_it_says 1 kubectl get "$pod" -o 'jsonpath={.status.containerStatuses[0].restartCount}'
until_it_says true kubectl get "$pod" -o 'jsonpath={.status.containerStatuses[0].ready}'

say "A pod is deleted while others ask for it; another one takes its place"
another() {
  run kubectl delete "$pod"
  run kubectl rollout status deployment/patient --timeout 60s
}
while_asking http://patient.localhost/ another

[ -n "${CONTROL_PID:-}" ] || exit 0
say "The platform itself is killed; what runs goes on"
killed() {
  run kill -KILL "$CONTROL_PID"
  sleep 1
}
trap - EXIT
while_asking http://patient.localhost/ killed
echo "start it again as before: it takes over what runs; then: corten rm patient"
