# What the scripts of this folder share; each sources it. $KUBECONFIG is the cluster's (default: that of a server on this machine),
# $CORTEN the program (default: the one on PATH).
set -euo pipefail

export KUBECONFIG=${KUBECONFIG:-/var/lib/corten/admin.kubeconfig}
corten=${CORTEN:-$(command -v corten || true)}

fail() {
  echo "error: $*" >&2
  exit 1
}

for program in curl kubectl "${corten:-corten}"; do
  command -v "$program" >/dev/null || fail "$program is missing; install it, or put its folder on PATH (corten: \$CORTEN)"
done
[ -r "$KUBECONFIG" ] || fail "$KUBECONFIG is not there; start a server by 'corten up', or set KUBECONFIG"

# Says in a sentence what is next.
say() {
  printf '\n# %s\n' "$*"
}

# Shows a command and runs it.
run() {
  printf '$ %s\n' "${*/#"$corten"/corten}"
  "$@"
}

# The page of a URL; what is no success is an error.
page() {
  curl --silent --show-error --fail --max-time 10 "$@"
}

# Waits until a command succeeds and prints what is wanted; a minute at most.
until_it_says() { # WANTED COMMAND...
  local wanted=$1 said= end=$((SECONDS + 60))
  shift
  until said=$("$@" 2>&1) && [[ $said == *"$wanted"* ]]; do
    [ "$SECONDS" -lt "$end" ] || fail "'$*' does not say '$wanted'; it says: $said"
    sleep 0.1
  done
}

# Asks for a URL again and again while a command runs. One answer that is no success, or none, is an error.
while_asking() { # URL COMMAND...
  local url=$1 lost asked answers asker
  shift
  answers=$(mktemp)
  while :; do
    curl --silent --output /dev/null --max-time 10 --write-out '%{http_code}\n' "$url" || true
    sleep 0.01
  done >"$answers" &
  asker=$!
  "$@" || { kill "$asker"; fail "'$*' fails"; }
  kill "$asker"
  wait "$asker" || true
  asked=$(wc -l <"$answers")
  lost=$(grep -cv '^200$' "$answers" || true)
  rm "$answers"
  echo "$asked requests meanwhile, $lost of them lost"
  [ "$asked" -gt 0 ] && [ "$lost" = 0 ] || fail "requests were lost"
}
