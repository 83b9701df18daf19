#!/usr/bin/env bash
# More of the same, and another release. It used to be a list of machines in a load balancer, and a window at night.
source "$(dirname "$0")/stage.sh"

trap 'kubectl -n shop scale deployment/www --replicas 3 >/dev/null; kubectl -n shop set env deployment/www RELEASE- >/dev/null' EXIT
say "From three to five"
run kubectl -n shop scale deployment/www --replicas 5
run kubectl -n shop rollout status deployment/www --timeout 120s

say "Requests are spread over all of them"
answered_by() {
  for _ in $(seq 60); do
    page --output /dev/null --write-out '%header{x-pod}\n' http://www.localhost/
  done | sort -u | wc -l
}
until_it_says 5 answered_by
echo "60 requests, answered by $(answered_by) pods"

say "Another release, while everybody asks"
released() {
  run kubectl -n shop set env deployment/www RELEASE=two
  run kubectl -n shop rollout status deployment/www --timeout 120s
}
while_asking http://www.localhost/ released

say "And back"
undone() {
  run kubectl -n shop rollout undo deployment/www
  run kubectl -n shop rollout status deployment/www --timeout 120s
}
while_asking http://www.localhost/ undone
